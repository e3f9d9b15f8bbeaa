"""Did the weights arrive? Every key is accounted for, and the features are compared.

Keys alone do not tell: a ResNet that strides in its first instead of its 3×3 convolution
(``style='caffe'``), another stem or another channel order takes every weight without a word and
computes something else.
"""
from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn

from densessl.backbones import feature_maps
from densessl.errors import UsageError
from densessl.pixels.normalization import normalize
from densessl.transfer.translate import neutral_weights
from densessl.weights.stated_backbone import rebuild

TOLERANCE = 1e-4    # of the largest activation; rounding stays below 1e-5 in fp32
IMAGE_SIZE = 224    # pixels; a multiple of 32 and of 14, so every patch size and stride fits


@dataclass
class KeyTable:
    """Where each weight of a file and of a model ended up, by state-dict key."""

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)      # in the model, not in the file
    unexpected: list[str] = field(default_factory=list)   # in the file, not in the model
    mismatched: dict[str, str] = field(default_factory=dict)   # other shape: 'file → model'
    altered: list[str] = field(default_factory=list)      # same name and shape, other values
    added: list[str] = field(default_factory=list)        # new behind the maps; start fresh

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.mismatched or self.altered)

    @property
    def total(self) -> int:
        return sum(count for name, count in self.counts().items() if name != 'added')

    def summary(self) -> str:
        """One line: ``'120 of 120 keys loaded'`` and what is wrong with the others."""
        parts = [f'{len(self.loaded)} of {self.total} keys loaded']
        for name, keys in (
                ('new behind the maps, starting fresh', self.added),
                ('missing in the file', self.missing),
                ('unknown to the model', self.unexpected),
                ('of another shape', [f'{key} {shapes}' for key, shapes
                                      in self.mismatched.items()]),
                ('not loaded or changed afterwards', self.altered)):
            if keys:
                parts.append(f'{len(keys)} {name} ({keys[0]}{", …" if len(keys) > 1 else ""})')
        return '; '.join(parts)

    def counts(self) -> dict[str, int]:
        return {name: len(getattr(self, name)) for name in
                ('loaded', 'missing', 'unexpected', 'mismatched', 'altered', 'added')}

    def table(self) -> Table:
        """The counts by part of the backbone (the first component of the key)."""
        columns = [name for name, count in self.counts().items() if count or name == 'loaded']
        table = Table('part', *columns, *([] if self.complete else ['first that is not loaded']),
                      box=None, pad_edge=False)
        for part in sorted({key.split('.')[0] for name in columns for key in getattr(self, name)}):
            keys = {name: [key for key in getattr(self, name) if key.split('.')[0] == part]
                    for name in columns}
            wrong = next((f'{key} {self.mismatched.get(key, name)}' for name in columns[1:]
                          if name != 'added' for key in keys[name]), '')
            table.add_row(part, *(str(len(found)) for found in keys.values()),
                          *([] if self.complete else [wrong]))
        return table

    def require_complete(self, source: str, target: str) -> None:
        """Raise UsageError unless every key of file and model is loaded."""
        if not self.complete:
            raise UsageError(f'the weights of {source} do not fit the {target} backbone of this '
                             f'config: {self.summary()}')


def compare_keys(state: Mapping[str, Tensor], modules: Mapping[str, nn.Module],
                 added: Iterable[str] = (), by_value: bool = True) -> KeyTable:
    """Compare translated weights with what is in the modules that received them, by value.

    Args:
        state: the weights, in the modules' own keys.
        modules: the receiving modules by their prefix in the model. A key is looked for in all of
            them: a C4 detector keeps layer4 outside its backbone.
        added: paths of the modules that start fresh
            (:meth:`densessl.transfer.target.TransferTarget.added_modules`).
        by_value: False before they are loaded: names and shapes alone are compared.
    """
    table, owned = KeyTable(), {}
    for module in modules.values():
        owned.update(module.state_dict())
    for key, value in state.items():
        if key not in owned:
            table.unexpected.append(key)
        elif owned[key].shape != value.shape:
            table.mismatched[key] = f'{tuple(value.shape)} → {tuple(owned[key].shape)}'
        elif not by_value or torch.equal(owned[key].cpu(), value.cpu()):
            table.loaded.append(key)
        else:
            table.altered.append(key)
    new = tuple(f'{path}.' for path in added)
    for key in owned:
        if key not in state:
            (table.added if new and key.startswith(new) else table.missing).append(key)
    return table


@dataclass
class FeatureCheck:
    """Largest relative difference of each compared stage, finest first."""

    differences: list[float]
    stages: int             # of the pretrained backbone: the number of its last
    numbers: list[int] = field(default_factory=list)   # of the compared stages, its library's own
    restrided_stage: int | None = None    # the first that has another size in the target

    @property
    def restrided(self) -> bool:
        return self.restrided_stage is not None

    @property
    def equal(self) -> bool:
        return bool(self.differences) and self.largest <= TOLERANCE

    @property
    def largest(self) -> float:
        """Of the differences; NaN if one of them is, which ``max`` may pass over, or if there are
        none."""
        return float(np.max(self.differences)) if self.differences else math.nan

    def summary(self) -> str:
        compared = len(self.differences)
        if not compared:
            return 'no stage has the size of the pretrained backbone’s'
        first, last = self.numbers[0], self.numbers[-1]
        stages = f'{first}–{last}' if last - first + 1 == compared > 1 else ', '.join(
            map(str, self.numbers))
        text = f'stage{"s" if compared > 1 else ""} {stages} of {self.stages} compared'
        if self.restrided:
            text += f' (stage {self.restrided_stage} is re-strided by the config)'
        return f'{text}, largest relative difference {self.largest:.1e}'

    def require_equal(self, target: str) -> None:
        """Raise UsageError unless the compared stages agree to :data:`TOLERANCE`."""
        if not self.differences:
            raise UsageError(
                f'the {target} backbone cannot be compared with the pretrained one: its first '
                f'stage already has another size or number of channels')
        if not self.equal:
            stage, difference = next(
                (number, difference) for number, difference
                in zip(self.numbers, self.differences, strict=True) if not difference <= TOLERANCE)
            raise UsageError(
                f'the {target} backbone has the pretrained weights but computes other features: '
                f'stage {stage} differs by {difference:.1e} of its largest '
                f'activation (rounding stays under {TOLERANCE:.0e}). Likely causes: '
                f"style='caffe' (the stride is in another convolution), another stem or "
                f'downsampling, another dilation (libraries differ in which convolutions of a '
                f'stage they dilate in the place of its stride: pretrain the network that is '
                f'fine-tuned), another normalization, activation or group count')


def reference_image(size: int = IMAGE_SIZE) -> Tensor:
    """The fixed image of the checks: (3, size, size) uint8, RGB, the same on every machine."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8)


def reference_input(state: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Tensor:
    """That image at a size that the network of the weights takes, normalized as it expects:
    (1, 3, size, size)."""
    family = neutral_weights(dict(state), meta['backbone']['type'])
    return normalize(reference_image(family[0].image_size if family else IMAGE_SIZE), meta)[None]


def compare_features(state: Mapping[str, Tensor], meta: Mapping[str, Any],
                     backbone: nn.Module, added: Iterable[str] = ()) -> FeatureCheck:
    """Compare a loaded backbone with the pretrained one, rebuilt from its provenance, on the
    reference image: evaluation mode, fp32, on the CPU (a GPU's TF32 is coarser than the check).

    Stages are compared up to the first that the target gives in another size, and before the
    modules that it ``added``.

    Raises:
        UsageError: the pretrained backbone computes infinities or NaN.
    """
    source = rebuild(meta, state, 'the file of weights')
    image = reference_input(state, meta)
    plain = copy.deepcopy(backbone).cpu().float()
    for path in added:
        plain.set_submodule(path, nn.Identity())
    pretrained, received = feature_maps(source, image), feature_maps(plain, image)
    numbers = getattr(source, 'stage_numbers', range(1, len(pretrained) + 1))
    check = FeatureCheck([], numbers[-1])
    for number, a, b in _paired(numbers, pretrained, received):
        if not torch.isfinite(a).all():
            raise UsageError(f'the weights are broken: on an image they compute infinities or NaN '
                             f'in stage {number}; take others')
        if a.shape != b.shape:
            if a.shape[1] == b.shape[1]:
                check.restrided_stage = number
            break
        check.numbers.append(number)
        scale = a.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
        check.differences.append(float((a - b).abs().max() / scale))
    return check


def _paired(numbers: Sequence[int], pretrained: tuple[Tensor, ...], received: tuple[Tensor, ...]
            ) -> list[tuple[int, Tensor, Tensor]]:
    """Maps of the same stage and its number, finest first. Where there are more on one side,
    channels tell the stages of a pyramid apart; maps of equal channels (a ViT's) are paired from
    the last backwards."""
    if len(pretrained) == len(received):
        return list(zip(numbers, pretrained, received, strict=True))
    pairs, rest = [], list(received)
    for number, a in zip(reversed(numbers), reversed(pretrained), strict=True):
        while rest and rest[-1].shape[1] != a.shape[1] and all(
                rest[-1].shape[1] != b.shape[1] for b in pretrained):
            rest.pop()
        if rest and rest[-1].shape[1] == a.shape[1]:
            pairs.append((number, a, rest.pop()))
    return pairs[::-1]


def compare_input(model: nn.Module, meta: Mapping[str, Any], channel_order: str) -> float:
    """How far the downstream model's input is from pretraining's on the reference image: the
    largest difference in units of the normalized input, 0 when mean, std and channel order agree.

    Args:
        channel_order: of the images that the target's loaders deliver, ``'BGR'`` or ``'RGB'``.
    """
    image = reference_image()
    raw = image.flip(0) if channel_order == 'BGR' else image
    seen = model.data_preprocessor({'inputs': [raw]}, False)['inputs'].cpu()
    return float((seen[..., :IMAGE_SIZE, :IMAGE_SIZE] - normalize(image, meta)[None]).abs().max())
