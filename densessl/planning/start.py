"""A pretraining run that starts from weights: its config follows them, they enter the model after
everything that initializes it, and the run keeps a copy of them.

They are loaded once. A run that is resumed goes on from its checkpoint and only follows them.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine import Config

from densessl.backbones import spelled, without_sources
from densessl.bounds import check_section
from densessl.engine.checkpoint_file import newest_checkpoint
from densessl.errors import UsageError, shown
from densessl.export.start import Start, place, read_start
from densessl.method import Method
from densessl.overrides import leaves
from densessl.pixels.pixel_rule import KEYS as RULE_KEYS
from densessl.planning.continuing import Continuing, freeze
from densessl.registry import METHODS
from densessl.weights.backbone_file import load_backbone_file, save_backbone
from densessl.weights.lineage import KEPT

LINK = 'as_start'       # in the provenance of that file: the link to them
DEFAULTS = {'mean': None, 'std': None, 'channel_order': 'RGB'}      # where a config says nothing
CONFIG_KEYS: dict[str, Any] = {
    'init': str | None, 'init_as': str | None, 'init_from': str | None, 'init_heads': bool}


def find_start(cfg: Config, folder: Path, *, resume: bool) -> Start | None:
    """The weights that a run with ``cfg`` in ``folder`` starts from, or started from; None if
    those are random.

    Raises:
        UsageError: there are none where the config says, or they cannot be read.
    """
    check_section('', cfg, CONFIG_KEYS)
    given, kept = cfg.get('init'), folder / KEPT
    if not given:
        lone = next((key for key in CONFIG_KEYS if cfg.get(key)), None)
        if lone:
            raise UsageError(f'{lone} {shown(cfg[lone])}: it is about weights to start from; give '
                             f'them with --init')
        return _read_kept(kept) if resume and kept.is_file() else None
    if resume:
        begun = newest_checkpoint(folder) is not None
        if not begun and not kept.is_file():
            raise UsageError(f'--resume: {folder} holds no run that started from {given}; leave '
                             f'--resume out to start one')
        if begun and kept.is_file() and not Path(given).is_file():    # not loaded again
            start = _read_kept(kept)
            return replace(start, lines=[f'{given} is not read again: the run’s own copy of what '
                                         f'it started from is there ({KEPT})'])
    try:
        return read_start(given, cfg.get('init_as'), cfg.get('init_from'),
                          bool(cfg.get('init_heads')))
    except UsageError as error:
        raise UsageError(f'init: {error}') from error


def new_start(cfg: Config) -> Start | None:
    """The weights that a run with ``cfg`` would start from that resumes none, as
    :func:`find_start`."""
    return find_start(cfg, Path(), resume=False)


def follow(cfg: Config, start: Start, options: Mapping[str, Any]) -> list[str]:
    """Have ``cfg`` use the network of the weights, if it names none, and their input.

    Args:
        options: the user's overrides by dotted key.

    Returns:
        What was changed, a line each.

    Raises:
        UsageError: the user asks for another input than the weights know.
    """
    lines: list[str] = []
    if not all(isinstance(cfg.get(key), Mapping) for key in ('model', 'normalization')):
        return lines    # the check of the config says what is wrong with it
    if cfg.model.get('backbone') is None:
        cfg.model.backbone = without_sources(start.meta['backbone'])
        lines.append(f'model.backbone: {spelled(cfg.model.backbone)}, as the weights’')
    elif (isinstance(cfg.model.backbone, Mapping) and
          (plain := without_sources(cfg.model.backbone)) != cfg.model.backbone.to_dict()):
        cfg.model.backbone = plain
        lines.append('model.backbone: what loads other weights is left out')
    asked = dict(leaves(options))
    for key in DEFAULTS:
        old, new = cfg.normalization.get(key, DEFAULTS[key]), _plain(start.meta[key])
        own = f'normalization.{key}'
        if own in asked and _plain(asked[own]) != new:
            raise UsageError(f'--cfg-options {own}={asked[own]}: the weights of {start.file} '
                             f'were trained with {new}; leave it out (weights that do not say it '
                             f'are told by densessl export --from auto --mean … --std …)')
        if _plain(old) != new:
            cfg.normalization[key] = new
            lines.append(f'{own}: {_said(new)} instead of {_said(old)}, as the weights know it')
    for key in RULE_KEYS:
        if start.meta.get(key) is not None and cfg.get(key) is None:
            cfg[key] = _plain(start.meta[key])
            lines.append(f'{key}: {cfg[key]}, as the weights were trained')
    return lines


def check_start(start: Start, cfg: Config) -> None:
    """Refuse weights that are not of the network of a config, before anything is written.

    Raises:
        UsageError: they are not, or the heads that are asked for are not its own, or more stages
            are to be frozen than there are.
    """
    method = METHODS.build(cfg.model.to_dict())
    freeze(method, Continuing.of(cfg))
    place(start, cfg.model.backbone, method.backbone)
    if start.heads is not None and not method.needs_labels:    # whose classes are counted later
        _load_heads(start, method)


def begin(start: Start, method: Method, network: Mapping[str, Any]) -> list[str]:
    """Load the weights into a method whose own initialization is done; targets start as copies.

    Returns:
        How they arrived, a line each.

    Raises:
        UsageError: they did not.
    """
    keys, features = place(start, network, method.backbone)
    lines = [f'{start.file.name}: {keys.summary()}; {features.summary()}']
    if start.heads is not None:
        _load_heads(start, method)
        lines.append(f'heads, targets and queue: {len(start.heads)} tensors loaded')
    elif start.links[0]['heads']:
        raise UsageError(f'{start.file} has no heads, and the run was to start with those of '
                         f'{start.links[0]["file"]}: give that again with --init')
    else:
        method.copy_targets()
    return lines


def keep(start: Start | None, folder: Path) -> None:
    """Keep the weights beside the run, for whoever compares with them later; what an earlier run
    kept there, which ended before its first checkpoint, is not this one's.

    Raises:
        UsageError: a file of that name is there that no run has kept.
    """
    if start is None:
        if (folder / KEPT).exists():
            _read_kept(folder / KEPT)       # refuses a file that is somebody's own
            (folder / KEPT).unlink()
    elif start.file != folder / KEPT:
        save_backbone(folder / KEPT, start.state, {**start.meta, LINK: start.links[0]})


def _read_kept(path: Path) -> Start:
    try:
        state, meta = load_backbone_file(path)
    except UsageError as error:
        raise UsageError(f'{error}. It is the run’s copy of what it started from: give that again '
                         f'with --init') from error
    link = meta.pop(LINK, None)
    if not (isinstance(link, dict) and link.get('sha256') == meta['sha256']):
        raise UsageError(f'{path} is not what a run keeps of its start; delete it, or give the '
                         f'weights with --init')
    return Start(path, state, meta, [link, *meta.get('start', ())])


@torch.no_grad()
def _load_heads(start: Start, method: Method) -> None:
    own = {key: value for key, value in method.state_dict().items()
           if not key.startswith('backbone.')}
    wrong = [*(f'{key} is missing' for key in own if key not in start.heads),
             *(f'{key} is unknown' for key in start.heads if key not in own),
             *(f'{key} is {tuple(start.heads[key].shape)}, here {tuple(value.shape)}'
               for key, value in own.items()
               if key in start.heads and start.heads[key].shape != value.shape)]
    if wrong:
        raise UsageError(f'init_heads: {start.file} holds other heads than the {method.name} of '
                         f'this config ({len(wrong)} of {len(own)} tensors: {wrong[0]}, …); leave '
                         f'init_heads out to take the backbone alone')
    method.load_state_dict(start.heads, strict=False)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _said(value: Any) -> str:
    return ' '.join(f'{one:g}' for one in value) if isinstance(value, (list, tuple)) else str(value)
