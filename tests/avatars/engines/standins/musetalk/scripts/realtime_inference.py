"""MuseTalk's realtime script: an Avatar that reads names which only running the script sets."""

import os

import numpy as np
import torch


def get_image_blending(image, face, face_box, mask_array, crop_box):
    assert face.dtype == np.uint8
    left, top, right, bottom = face_box
    assert face.shape == (bottom - top, right - left, 3)
    image[top:bottom, left:right] = face
    return image


class Avatar:
    def __init__(self, avatar_id, video_path, bbox_shift, batch_size, preparation):
        base = f"./results/{args.version}/avatars/{avatar_id}"  # noqa: F821 - set from outside, as in the real one
        if preparation:
            os.makedirs(base)
        count = 4
        self.frame_list_cycle = [np.full((128, 128, 3), 60, np.uint8)] * count
        self.coord_list_cycle = [[32, 32, 96, 96]] * count
        self.input_latent_list_cycle = [torch.Tensor(np.zeros((1, 8, 32, 32), np.float32))] * count
        self.mask_list_cycle = [np.full((64, 64), 255, np.uint8)] * count
        self.mask_coords_list_cycle = [[32, 32, 96, 96]] * count
