"""A pretraining's recipe and what it is trained on: lists of images, masks, drawn label maps."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from densessl.config import load_config
from densessl.errors import UsageError
from densessl.files.writing import write_text
from densessl.images.find import find_images
from densessl.planning.configured import configure
from densessl.planning.continuing import TABLE, check_continuing
from densessl.planning.decisive_settings import leaves_of, settings_of
from densessl.planning.start import KEPT
from densessl.registry import METHODS
from densessl.study.cells import Cell, Command, Place, Run, options_of
from densessl.study.plan import Source, Weights

CHECKPOINTS = 8     # of a pretraining: what is lost by a kill is an eighth of it
OURS = {'train_dataloader.num_workers': 0, 'checkpoint.keep': 1}


@dataclass(frozen=True)
class Recipe:
    """A pretraining as the file names it, resolved: what every run of it shares."""

    weights: Weights

    @cached_property
    def cfg(self) -> Any:
        """The config with its overrides.

        Raises:
            UsageError: it is wrong; nothing has been started yet.
        """
        given = {**OURS, **self.weights.options}
        if self.weights.init and given.get('model.backbone', '') is None:
            given.pop('model.backbone')     # its network is that of the weights
        return configure(self.weights.config, given).cfg

    @property
    def batch(self) -> int:
        """Images an update."""
        return self.cfg.train_dataloader.get('batch_size') or self.cfg.global_batch

    @cached_property
    def masks(self) -> dict[str, Any] | None:
        """Generator and parameters of its region masks; None if it takes none."""
        if not METHODS.get(self.cfg.model.type).needs_masks:
            if self.weights.masks:
                raise UsageError(f'pretrainings.{self.weights.name}.masks: '
                                 f'{self.weights.config} takes no region masks; leave it out')
            return None
        if self.weights.masks:
            return dict(self.weights.masks)
        return self.cfg.masks.to_dict()

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What decides the weights, but for data, length and seed."""
        found = {key: value for key, value in settings_of(self.cfg).items()
                 if not key.startswith('masks')}
        return {**found, **leaves_of(self.cfg, ('global_batch',)), 'batch': self.batch,
                'masks': self.masks}

    @cached_property
    def continuing(self) -> dict[str, Any]:
        """How weights to continue from are trained; empty where there are none."""
        if not self.weights.init:
            return {}
        cfg = load_config(self.weights.config, {**OURS, **self.weights.options})
        check_continuing(cfg)
        return leaves_of(cfg, [TABLE])

    def train(self, place: Place, images: Path, count: int, folder: Path, steps: int,
              options: Mapping[str, Any], masks: Path | None) -> Command:
        """The command that pretrains for ``steps`` updates."""
        epochs = (steps + 0.5) * self.batch / count     # half a step more: the rest is cut off
        given = {**OURS, 'checkpoint.every_epochs': epochs / CHECKPOINTS, **self.weights.options,
                 **options}
        return ['train', self.weights.config, '--data', str(images), '--work-dir', str(folder),
                '--epochs', f'{epochs:.9g}',
                *(['--masks', str(masks)] if masks else []), *self._start(place, folder),
                *options_of(given, place)]

    def _start(self, place: Place, folder: Path) -> Command:
        begun = (folder / KEPT).is_file()       # --resume with --init is refused before
        init = self.weights.init
        return [*(['--init', str(place.path(init))] if init else []),
                *(['--resume'] if begun or not init else [])]


def image_source(data: Sequence[str], place: Place) -> Path:
    """What ``--data`` takes: the folder, or of several a list of all their images."""
    if len(data) == 1:
        return place.path(data[0])
    path = place.folder / 'lists' / f'{"+".join(data).replace("/", "-")}.txt'
    lists = [find_images(place.path(one)) for one in data]
    text = '\n'.join(str(one.path(i)) for one in lists for i in range(len(one))) + '\n'
    if not path.is_file() or path.read_text(encoding='utf-8') != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return path


def masks_command(masks: Mapping[str, Any], images: Path, out: Path, place: Place) -> Command:
    """The command that makes ``masks`` of ``images``."""
    parameters = [f'{key}={place.filled(value)}' for key, value in masks.items() if key != 'type']
    return ['make_masks', str(images), str(out), '--generator', masks['type'], '--workers',
            str(place.threads), *(['--set', *parameters] if parameters else [])]


@dataclass(frozen=True)
class DrawnLabels(Cell):
    """Label maps drawn from annotations in COCO's format."""

    source: Source = field(kw_only=True)
    digest: str | None = field(kw_only=True)
    kind = 'drawn_labels'

    @property
    def settings(self) -> dict[str, Any]:
        return {'of': self.source.label_maps_of, 'digest': self.digest,
                'classes': list(self.source.classes)}

    def command(self, place: Place, runs: Sequence[Run]) -> Command | None:
        classes = ['--classes', *self.source.classes] if self.source.classes else []
        return None if runs else ['make_label_maps', str(place.path(self.source.label_maps_of)),
                                  str(self.made(place)), *classes]

    def made(self, place: Place) -> Path:
        """The folder of images and label maps."""
        return self.folder(place) / 'data'

    def products(self, place: Place) -> list[Path]:
        return [self.made(place)]


@dataclass(frozen=True)
class OfRecipe(Cell):
    """A cell that runs a recipe on images."""

    recipe: Recipe = field(kw_only=True)
    digests: tuple[str | None, ...] = field(kw_only=True)
    files: Mapping[str, str | None] = field(default_factory=dict, kw_only=True)

    @property
    def data(self) -> dict[str, Any]:
        return {'data': list(self.recipe.weights.data), 'digests': list(self.digests)}

    @property
    def start(self) -> dict[str, Any]:
        """The files that it reads beside the images, and what it continues from; empty of one from
        random weights."""
        found = {'files': dict(self.files)} if self.files else {}
        if self.recipe.weights.init:
            found |= {'init': self.recipe.weights.init, **self.recipe.continuing}
        return found

    def images(self, place: Place) -> tuple[Path, int]:
        """What ``--data`` takes, and how many images that are."""
        source = image_source(self.recipe.weights.data, place)
        return source, len(find_images(source))

    def store(self, place: Place) -> Path | None:
        """The masks that were made for it; None if it takes none."""
        made = self.before(Masks)
        return made.folder(place) / 'masks' if made else None

    def before(self, kind: type[Cell]) -> Cell | None:
        """The cell of a kind that it needs, if there is one."""
        return next((one for one in self.after if isinstance(one, kind)), None)


@dataclass(frozen=True)
class Masks(OfRecipe):
    """Region masks of the images, made once for all who use them."""

    minutes: float = 0.5
    kind = 'masks'
    resumes = True

    @property
    def settings(self) -> dict[str, Any]:
        return {**self.data, 'masks': self.recipe.masks}

    def command(self, place: Place, runs: Sequence[Run]) -> Command | None:
        return None if runs else masks_command(self.recipe.masks, self.images(place)[0],
                                               self.folder(place) / 'masks', place)

    def outcome(self, place: Place, runs: Sequence[Run]) -> dict[str, Any]:
        return {'masks': self.recipe.masks, 'images': self.images(place)[1]}

    def products(self, place: Place) -> list[Path]:
        return [self.folder(place) / 'masks']
