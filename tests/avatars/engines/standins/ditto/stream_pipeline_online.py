"""Ditto's StreamSDK: threads of its own, frames through `writer`, ten frames at a time and twenty late."""

import queue
import threading

import numpy as np
from faults import heard, level


class Writer:
    def __init__(self, path, fps=25):
        self.path = path

    def __call__(self, frame, fmt="bgr"):
        raise AssertionError("nobody may write the file")

    def close(self):
        pass


class StreamSDK:
    def __init__(self, cfg_pkl, data_root, **kwargs):
        self.cfg_pkl, self.data_root = cfg_pkl, data_root

    def setup(self, source_path, output_path, **kwargs):
        assert kwargs["online_mode"]
        with open(source_path, "rb") as file:
            assert file.read(4)
        self.writer = Writer(output_path + ".tmp.mp4", fps=kwargs.get("fps", 25))
        self.worker_exception = None
        self.stop_event = threading.Event()
        self.audio2motion_queue = queue.Queue(maxsize=100)
        self.thread_list = [threading.Thread(target=self._worker)]
        self.thread_list[0].start()

    def setup_Nd(self, N_d, fade_in=-1, fade_out=-1, ctrl_info=None):  # noqa: N802, N803 - the real one's names
        pass

    def run_chunk(self, audio_chunk, chunksize=(3, 5, 2)):
        assert audio_chunk.shape == (6480,)
        assert audio_chunk.dtype == np.float32
        assert chunksize == (3, 5, 2)
        self.audio2motion_queue.put([audio_chunk[1920 + 640 * n : 2560 + 640 * n] for n in range(5)], timeout=1)

    def _worker(self):
        waiting = []
        try:
            while not self.stop_event.is_set():
                try:
                    item = self.audio2motion_queue.get(timeout=0.05)
                except queue.Empty:
                    continue
                if item is None:
                    return
                waiting += item
                while len(waiting) >= 20:
                    for samples in waiting[:10]:
                        side = (128,) if heard(samples) else (128, 128, 3)
                        self.writer(np.full(side, min(255, int(level(samples) * 400)), np.uint8), fmt="rgb")
                    waiting = waiting[10:]
        except Exception as error:
            self.worker_exception = error
            self.stop_event.set()

    def close(self):
        self.audio2motion_queue.put(None)
        for thread in self.thread_list:
            thread.join()
        self.writer.close()
        if self.worker_exception is not None:
            raise self.worker_exception
