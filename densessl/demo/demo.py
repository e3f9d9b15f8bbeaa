"""What a demo is: its config, its folder, and the names of what it measures."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine import Config

from densessl.config import load_config
from densessl.errors import check_keys

CONFIG = 'demo/demo'
KEYS = {'sample', 'pretraining', 'probe', 'finetuning', 'pictures', 'quick'}
RANDOM, PRETRAINED = 'random', 'pretrained'
BOTH = (RANDOM, PRETRAINED)
PROBE = 'probe'                # the stage of it


@dataclass
class Demo:
    """One run of the demo and where its parts are.

    Attributes:
        cfg: what to do, as ``configs/demo/demo.py`` says it, with ``quick`` applied.
        folder: everything is kept here.
        seed: of the sample, the pretraining, the probe and the fine-tuning.
        quick: whether this is the short way, whose scores mean nothing.
    """

    cfg: Config
    folder: Path
    seed: int = 0
    quick: bool = False

    def __post_init__(self) -> None:
        self.sample, self.masks = self.folder / 'sample', self.folder / 'masks'
        self.pretraining = self.folder / 'pretraining'
        self.backbone, self.report = self.folder / 'backbone.pth', self.folder / 'report.html'
        self.options = {**self.cfg.pretraining.options, 'seed': self.seed}
        self.method = load_config(self.cfg.pretraining.config, self.options)

    def finetuning(self, part: Any, weights: str, repeat: int = 0) -> Path:
        """The work folder of a fine-tuning run."""
        name = f'{Path(part.config).name}-{weights}'
        return self.folder / 'finetuning' / (f'{name}-{repeat}' if repeat else name)

    def label(self, weights: str) -> str:
        """What is printed for ``RANDOM`` or ``PRETRAINED``."""
        return self.cfg.pretraining.name if weights == PRETRAINED else weights

    @property
    def mask_words(self) -> str:
        """The mask generator and its parameters, in words."""
        masks = self.method.masks.to_dict()
        values = ', '.join(f'{key} {value}' for key, value in masks.items() if key != 'type')
        return f'{masks["type"]}: {values}'

    def seed_of(self, repeat: int) -> int:
        """The seed of a measurement's repetition; demos of neighboring seeds share none."""
        return (1000 * self.seed + repeat) % 2 ** 32

    def shown(self) -> list[str]:
        """The names of the validation scenes whose predictions are kept for the report."""
        images = sorted((self.sample / 'images' / 'val').iterdir())
        return [path.stem for path in images[:self.cfg.pictures.predictions]]


def read_demo_config(quick: bool) -> Config:
    """The demo's config, with its ``quick`` part merged into the rest if asked for."""
    cfg = load_config(CONFIG)
    check_keys(CONFIG, (key for key in cfg if not key.startswith('_')), KEYS)
    if quick:
        cfg.merge_from_dict(cfg.quick.to_dict())
    return cfg


def run_name(part: Any, weights: str, repeat: int = 0) -> str:
    """The name of the run that fine-tunes ``part``, such as ``'NAME from random'``, and
    ``'NAME from random, 2'`` of its second repetition."""
    return f'{part.name} from {weights}' + (f', {repeat + 1}' if repeat else '')
