"""Keeping what a downstream model predicted, exactly as it was scored."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from densessl.transfer.prediction import Instances, Prediction

FOLDER = 'predictions'     # in the work folder of a fine-tuning run


@HOOKS.register_module()
class KeepPredictions(Hook):
    """Write the predictions of some validation images, at every evaluation anew.

    Reads the data elements that models of mmengine's family return: ``pred_sem_seg`` becomes a
    label map ``NAME.png``, ``pred_instances`` boxes, scores, labels and masks in ``NAME.npz``.

    Args:
        names: the images' file names without folder and suffix.
    """

    priority = 'LOW'

    def __init__(self, names: Sequence[str]) -> None:
        self.names = set(names)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                       outputs: Sequence[Any] | None = None) -> None:
        for sample in outputs or ():
            name = Path(sample.img_path).stem
            if name in self.names:
                folder = Path(runner.work_dir) / FOLDER
                folder.mkdir(exist_ok=True)
                _write(folder / name, sample)


def read_label_map(folder: Path, name: str) -> np.ndarray | None:
    """The predicted (H, W) label map of image ``name`` in a run's ``folder``, if there is one."""
    return cv2.imread(str(folder / FOLDER / f'{name}.png'), cv2.IMREAD_UNCHANGED)


def read_instances(folder: Path, name: str) -> Instances | None:
    """The predicted objects of image ``name`` in a run's ``folder``, if there are any."""
    path = folder / FOLDER / f'{name}.npz'
    if not path.exists():
        return None
    with np.load(path) as arrays:
        return Instances(*(arrays[key] for key in ('boxes', 'scores', 'labels', 'masks')))


def _write(path: Path, sample: Any) -> None:
    found = Prediction.of(sample)
    if found.labels is not None:
        cv2.imwrite(str(path.with_suffix('.png')), found.labels.astype(np.uint8))
    if found.instances is not None:
        np.savez_compressed(path.with_suffix('.npz'), **vars(found.instances))
