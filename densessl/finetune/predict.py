"""Predictions to look at: a fine-tuned model on any folder of images."""
from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from densessl.bounds import allows, whole
from densessl.engine.checkpoint_file import newest_whole
from densessl.errors import UsageError, shown
from densessl.finetune.downstream_config import read_downstream_config
from densessl.finetune.draw_prediction import draw
from densessl.finetune.image_loading import rule_in
from densessl.finetune.run_folder import RECORD, read_record
from densessl.images.find import find_images
from densessl.images.image_list import ImageList, UnreadableImage, require_apart
from densessl.images.image_names import check_links
from densessl.images.range_survey import with_rule
from densessl.pictures.figures import write_picture
from densessl.pixels.pixel_rule import PixelRule
from densessl.progress import Progress
from densessl.transfer.prediction import Prediction
from densessl.weights.backbone_file import load_weights_only
from densessl.weights.stored_tensors import check_finite, check_state

_BYTE = whole(0, 255)


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model.

    Attributes:
        checkpoint: its file.
        config: the config file it was trained with.
        predict: (H, W, 3) uint8 RGB image → what is in it.
        classes, palette: names and RGB colors by class index.
        rule: how the images that it was trained on were read.
    """

    checkpoint: Path
    config: Path
    predict: Callable[[np.ndarray], Prediction]
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    rule: PixelRule


@dataclass
class Drawn:
    """Pictures that were written, and why others were not, by image."""

    pictures: list[Path] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def draw_predictions(model: str | Path, images: str | Path, out: str | Path, *,
                     score: float = 0.3, overwrite: bool = False,
                     pixels: dict[str, Any] | None = None) -> Drawn:
    """Draw what a fine-tuned model finds in images; the folders in ``out`` are those of ``images``.

    Args:
        model: the work folder of ``finetune``, or a checkpoint in one.
        images: a folder of images or tar shards, a list of paths or a COCO JSON.
        score: objects below are not drawn, 0 to 1.
        overwrite: replace pictures that are in ``out`` already.
        pixels: ``value_range`` and ``bands`` instead of those of the fine-tuning.

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
    found = with_rule(found, PixelRule.of({**finetuned.rule.record(), **(pixels or {})}))
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
            write_picture(path, picture)
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
    state = content.get('state_dict')
    if not isinstance(state, dict):
        raise UsageError(f'{checkpoint} is not a checkpoint of a fine-tuned model: it has no '
                         f'state_dict')
    check_state(state, checkpoint)
    check_finite(state, checkpoint)
    classes, palette = _classes(content.get('meta'), checkpoint)
    return Finetuned(checkpoint, config, target.predictor(cfg, state), classes, palette,
                     rule_in(cfg))


def _classes(meta: Any, checkpoint: Path) -> tuple[list[str], Sequence[Sequence[int]]]:
    """The names and the colors of the classes that the checkpoint states."""
    about = meta.get('dataset_meta') if isinstance(meta, dict) else None
    about = about if isinstance(about, dict) else {}
    classes, palette = about.get('classes'), about.get('palette') or ()
    if not classes:
        raise UsageError(f'{checkpoint} is not a checkpoint of a fine-tuned model: it has no '
                         f'classes')
    if not allows(Sequence[str], classes):
        raise UsageError(f'{checkpoint} is damaged: its classes are {shown(classes)}, not a list '
                         f'of names; fine-tune again')
    if not allows(Sequence[tuple[_BYTE, _BYTE, _BYTE]], palette):
        raise UsageError(f'{checkpoint} is damaged: its palette is {shown(palette)}, not a list of '
                         f'colors (three whole numbers from 0 to 255); fine-tune again')
    return list(classes), palette


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
    """The config that the run wrote out beside its checkpoints, by the name that it recorded.
    Reading a config executes it, so only that one is used."""
    record = folder / RECORD
    if not record.is_file():
        raise UsageError(f'there is no {RECORD} beside the checkpoint in {folder}, which names the '
                         f'config of its run; keep the checkpoint in the work folder where '
                         f'densessl finetune wrote it')
    settings = read_record(record)
    name = settings.get('config')
    if not isinstance(name, str) or name != Path(name).name or not name.strip('.') \
            or not name.isprintable():
        raise UsageError(f'{record} is damaged: its config is {shown(name)}, not the name of a '
                         f'config; fine-tune again')
    if not (folder / f'{name}.py').is_file():
        raise UsageError(f'there is no {name}.py in {folder}, the config that its run wrote; keep '
                         f'the checkpoint in the work folder where densessl finetune wrote it')
    return folder / f'{name}.py'


def _pictures(images: ImageList, out: Path, overwrite: bool) -> list[Path]:
    """Where each image's picture goes; nothing of the user's is in the way."""
    require_apart(images, out, 'pictures')
    names = [Path(images.name(i)) for i in range(len(images))]
    often = Counter(name.with_suffix('.png') for name in names)   # a.jpg and a.png may be there
    paths = [out / (name.with_suffix('.png') if often[name.with_suffix('.png')] == 1
                    else name.with_name(f'{name.name}.png')) for name in names]
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise UsageError(f'several images of {images.source} would have the picture {twice[0]}; '
                         f'rename one of them, or leave it out by a list of paths')
    check_links(out, (str(path.relative_to(out)) for path in paths), '--out')
    # not Path.resolve, which fails on a link to itself
    originals = {os.path.realpath(images.path(i)) for i in range(len(images))}
    lost = [path for path in paths if os.path.realpath(path) in originals]
    if lost:
        raise UsageError(f'--out {out} would write over the images themselves, such as {lost[0]}; '
                         f'choose another folder')
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        raise UsageError(f'{out} holds {len(existing)} of the {len(paths)} pictures already, such '
                         f'as {existing[0].name}; choose another folder, or add --overwrite')
    if out.exists() and not out.is_dir():
        raise UsageError(f'--out {out} is a file; it must be a folder')
    return paths
