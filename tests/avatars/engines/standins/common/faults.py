"""What a stand-in does when it hears a fault: speech is far below these levels, a constant of such a level is not."""

import os
import time

import numpy as np

CRASH, SHAPE, SLOW, RAISE = 0.96, 0.90, 0.84, 0.78


def level(samples):
    """Root mean square, 0 to 1."""
    return float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0


def heard(samples):
    """Act on what was heard; True for a frame of the wrong shape."""
    loudness = level(samples)
    if abs(loudness - CRASH) < 0.01:
        os._exit(9)
    if abs(loudness - RAISE) < 0.01:
        raise RuntimeError("CUDA out of memory")
    if abs(loudness - SLOW) < 0.01:
        time.sleep(0.4)
    return abs(loudness - SHAPE) < 0.01


def picture(samples, height, width):
    """A frame as bright as the sound is loud."""
    if heard(samples):
        return np.zeros((height, width), np.float32)
    return np.full((height, width, 3), min(255, int(level(samples) * 400)), np.uint8)
