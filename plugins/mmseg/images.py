"""The one door through which MMSegmentation and MMDetection read images: densessl's decoder.

Theirs (mmcv's ``LoadImageFromFile``, by OpenCV) gives nothing for a photo whose last bytes are
missing, although every viewer shows it. Of ordinary files the pixels are the same bits.
"""
from __future__ import annotations

from typing import Any

import cv2
import mmengine.fileio as fileio
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.registry import TRANSFORMS

from densessl.data.damaged import read_labelled_data
from densessl.data.decode import UnreadableImage


class LoadImageAsShown(LoadImageFromFile):
    """``LoadImageFromFile``, by the same arguments. What it is asked for beyond a color image of
    8 bits by OpenCV (another backend, other channels or depth) it leaves to mmcv."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        if (self.color_type, self.imdecode_backend) != ('color', 'cv2') or self.file_client_args:
            return super().transform(results)
        path = results['img_path']
        try:
            data = fileio.get(path, backend_args=self.backend_args)
            if not data:
                raise UnreadableImage(path, 'the file is empty')
            pixels, _ = read_labelled_data(path, data)
        except (OSError, UnreadableImage):
            if self.ignore_empty:
                return None
            raise
        image = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)     # (H, W, 3)
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


def register() -> None:
    """Have every config's ``LoadImageFromFile`` read through it; may be repeated."""
    TRANSFORMS.register_module(name='LoadImageFromFile', module=LoadImageAsShown, force=True)
