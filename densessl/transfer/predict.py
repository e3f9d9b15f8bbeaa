"""Predictions to look at: a fine-tuned model on any folder of images."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from densessl.checkpoint_file import newest_whole
from densessl.data.images import ImageList, UnreadableImage, find_images
from densessl.data.progress import Progress
from densessl.errors import UsageError
from densessl.evaluation.drawing import draw
from densessl.evaluation.predictions import Prediction
from densessl.files import atomic_path
from densessl.transfer.export import load_weights_only
from densessl.transfer.finetune import read_downstream_config


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model.

    Attributes:
        checkpoint: its file.
        config: the config file it was trained with.
        predict: (H, W, 3) uint8 RGB image → what is in it.
        classes, palette: names and RGB colors by class index.
    """

    checkpoint: Path
    config: Path
    predict: Callable[[np.ndarray], Prediction]
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]


@dataclass
class Drawn:
    """Pictures that were written, and why others were not, by image."""

    pictures: list[Path] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def draw_predictions(model: str | Path, images: str | Path, out: str | Path, *,
                     score: float = 0.3, overwrite: bool = False) -> Drawn:
    """Draw what a fine-tuned model finds in images; the folders in ``out`` are those of ``images``.

    Args:
        model: the work folder of ``finetune``, or a checkpoint in one.
        images: a folder of images or tar shards, a list of paths or a COCO JSON.
        score: objects below are not drawn, 0 to 1.
        overwrite: replace pictures that are in ``out`` already.

    Raises:
        UsageError: the model cannot be opened, there are no images, or something would be lost.
    """
    if not 0 <= score <= 1:
        raise UsageError(f'--score must be from 0 to 1, not {score}')
    found = find_images(images)
    pictures = _pictures(found, Path(out), overwrite)
    finetuned = open_finetuned(model)
    print(f'{finetuned.checkpoint} ({finetuned.config.stem}): {len(finetuned.classes)} classes',
          flush=True)
    drawn = Drawn()
    with Progress('predicting', len(found)) as progress:
        for i, path in enumerate(pictures):
            try:
                image = found.read(i)
            except UnreadableImage as error:
                drawn.skipped[found.where(i)] = error.reason
                continue
            picture = draw(image, finetuned.predict(image), finetuned.classes, finetuned.palette,
                           score)
            _write(path, picture)
            drawn.pictures.append(path)
            progress.update(i + 1)
    return drawn


def open_finetuned(path: str | Path) -> Finetuned:
    """Build the model of a work folder of ``finetune``, or of a checkpoint in one, with its
    weights.

    Raises:
        UsageError: there is no checkpoint or no config, or they do not belong together.
    """
    checkpoint = _checkpoint(Path(path))
    config = _config(checkpoint.parent)
    cfg, target = read_downstream_config(str(config))
    content = load_weights_only(checkpoint)
    meta = (content.get('meta') or {}).get('dataset_meta') or {}
    if 'state_dict' not in content or not meta.get('classes'):
        raise UsageError(f'{checkpoint} is no checkpoint of a fine-tuned model: it has no '
                         f'{"classes" if "state_dict" in content else "state_dict"}')
    predict = target.predictor(cfg, content['state_dict'])
    return Finetuned(checkpoint, config, predict, list(meta['classes']),
                     meta.get('palette') or ())


def _checkpoint(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError(f'no folder or checkpoint {path}; name the work folder of densessl '
                         f'finetune, or an iter_N.pth in it')
    newest = newest_whole(path, partial(print, flush=True))
    if newest is None:
        raise UsageError(f'{path} holds no checkpoint (iter_N.pth or epoch_N.pth); is it the work '
                         f'folder of densessl finetune?')
    return newest


def _config(folder: Path) -> Path:
    """The config that mmengine's Runner wrote out beside its checkpoints: the newest, should the
    folder have been used for another before."""
    found = sorted(folder.glob('*.py'), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UsageError(f'there is no config beside the checkpoint in {folder}; keep the '
                         f'checkpoint in the work folder where densessl finetune wrote it')
    return found[-1]


def _pictures(images: ImageList, out: Path, overwrite: bool) -> list[Path]:
    """Where each image's picture goes; nothing of the user's is in the way."""
    names = [Path(images.name(i)) for i in range(len(images))]
    often = Counter(name.with_suffix('.png') for name in names)   # a.jpg and a.png may be there
    paths = [out / (name.with_suffix('.png') if often[name.with_suffix('.png')] == 1
                    else name.with_name(f'{name.name}.png')) for name in names]
    originals = {images.path(i).resolve() for i in range(len(images))}
    lost = [path for path in paths if path.resolve() in originals]
    if lost:
        raise UsageError(f'--out {out} would write over the images themselves, such as {lost[0]}; '
                         f'choose another folder')
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        raise UsageError(f'{out} holds {len(there)} of the {len(paths)} pictures already, such as '
                         f'{there[0].name}; choose another folder, or add --overwrite')
    if out.exists() and not out.is_dir():
        raise UsageError(f'--out {out} is a file; it must be a folder')
    return paths


def _write(path: Path, picture: np.ndarray) -> None:
    content: Any = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as unfinished:
            unfinished.write_bytes(content.tobytes())
    except OSError as error:
        raise UsageError(f'cannot write {path}: {error.strerror}') from error
