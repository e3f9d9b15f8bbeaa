"""Which parameters of a backbone are its stem and which are of which stage, whatever its library.

A stage is what a feature map needs beyond the finer ones. The stem is what comes before the first
blocks; it belongs to the first map. A network of one resolution has its blocks divided into four
stages.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn

from densessl.backbones import evaluating, finest_first

QUARTERS = 4        # stages of a network that has one resolution
CONTAINERS = (nn.Sequential, nn.ModuleList)     # of its blocks
FEWEST_BLOCKS = 4


def parameters_by_stage(backbone: nn.Module, size: int = 224) -> list[list[str]]:
    """The names of a backbone's parameters: the stem's (perhaps none), then those of each stage.

    Args:
        backbone: maps (B, 3, H, W) to a tuple of maps.
        size: height and width in pixels of the blank image that finds it out.
    """
    owned = dict(backbone.named_parameters())
    needed = _needed(backbone, owned, size)
    stem = [name for name in _stem(backbone) if name in needed[0]]
    if len(stem) == len(needed[0]):
        stem = []
    taken, stages = set(stem), []
    for names in needed:
        stages.append([name for name in owned if name in names and name not in taken])
        taken |= names
    stages = [stage for stage in stages if stage] or [[]]
    stages[-1] += [name for name in owned if name not in taken]     # of no map: after the last
    if len(stages) == 1:
        stages = _quarters(backbone, stages[0])
    return [stem, *stages]


def _needed(backbone: nn.Module, owned: dict[str, nn.Parameter], size: int) -> list[set[str]]:
    """The parameters that each map depends on, finest first."""
    weight = next(iter(owned.values()))
    trained = {name: parameter.requires_grad for name, parameter in owned.items()}
    try:
        backbone.requires_grad_(True)
        with evaluating(backbone), torch.enable_grad():
            maps = finest_first(backbone(torch.zeros(1, 3, size, size, device=weight.device,
                                                     dtype=weight.dtype)))
            return [_dependencies(map_, owned) for map_ in maps]
    finally:
        for name, parameter in owned.items():
            parameter.requires_grad_(trained[name])


def _dependencies(map_: Tensor, owned: dict[str, nn.Parameter]) -> set[str]:
    gradients = torch.autograd.grad(map_.sum(), list(owned.values()), retain_graph=True,
                                    allow_unused=True)
    return {name for name, gradient in zip(owned, gradients, strict=True) if gradient is not None}


def _stem(module: nn.Module, prefix: str = '') -> list[str]:
    """What comes before the first child that consists of blocks."""
    names = [prefix + name for name, _ in module.named_parameters(recurse=False)]
    first = True
    for name, child in module.named_children():
        if not any(True for _ in child.parameters()):
            continue
        if _depth(child) >= 2:      # blocks, which consist of layers
            return names if not first else [*names, *_stem(child, f'{prefix}{name}.')]
        names += [f'{prefix}{name}.{key}' for key, _ in child.named_parameters()]
        first = False
    return names


def _depth(module: nn.Module) -> int:
    """How many levels of modules there are above the parameters."""
    children = [child for child in module.children() if any(True for _ in child.parameters())]
    return 1 + max(map(_depth, children)) if children else 0


def _quarters(backbone: nn.Module, names: list[str]) -> list[list[str]]:
    """The parameters of a network's only stage in four, by the blocks that most of them are in."""
    for prefix, blocks in backbone.named_modules():
        if not isinstance(blocks, CONTAINERS) or len(blocks) < FEWEST_BLOCKS:
            continue
        place = {f'{prefix}.{index}.': QUARTERS * i // len(blocks)
                 for i, index in enumerate(dict(blocks.named_children()))}
        inside = [name for name in names if name.startswith(f'{prefix}.')]
        if 2 * len(inside) <= len(names):
            continue
        stages: list[list[str]] = [[] for _ in range(QUARTERS)]
        for name in names:
            number = next((n for start, n in place.items() if name.startswith(start)), None)
            before = name not in inside and names.index(name) < names.index(inside[0])
            stages[number if number is not None else 0 if before else -1].append(name)
        return stages
    return [names]
