"""Import weights into the network that the user names, whatever its family."""
from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from densessl.backbones import build_backbone, spelled
from densessl.errors import UsageError
from densessl.export.foreign import candidate_layouts
from densessl.export.foreign_file import (
    AUTO,
    Foreign,
    Found,
    account,
    foreign_tensors,
    starts_of,
)
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.foreign_checkpoints import CheckpointLayout, Parts, sort_tensors
from densessl.transfer.handoff import KeyTable
from densessl.transfer.target import TransferTarget
from densessl.weights.backbone_file import weights_hash
from densessl.weights.keymap import State

_CALL = re.compile(r'(?P<type>[\w.]+)\s*(?:\((?P<arguments>.*)\))?', re.DOTALL)
_LOADING = ('pretrained', 'weights', 'checkpoint_path', 'init_cfg')   # arguments that fetch weights


def parse_network(text: str, option: str = '--as') -> dict[str, Any]:
    """``'TARGET.name'`` or ``'TARGET.name(key=value, …)'``, the values plain, as a backbone's
    configuration.

    Raises:
        UsageError: it is neither, or an argument would load weights.
    """
    match = _CALL.fullmatch(text.strip())
    try:
        call = ast.parse(f'f({match["arguments"] or ""})', mode='eval').body if match else None
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)) or call.args:
            raise ValueError
        arguments = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
        if None in arguments or 'type' in arguments:   # **unpacked
            raise ValueError
    except (ValueError, TypeError, SyntaxError) as error:
        raise UsageError(f'{option} {text}: give TARGET.name, or TARGET.name(key=value, …) with '
                         f'plain values') from error
    loading = next((name for name in _LOADING if arguments.get(name)), None)
    if loading:
        raise UsageError(f'{option} {text}: {loading} would load other weights; leave it out, the '
                         f'weights are those of the file')
    return {'type': match['type'], **arguments}


def read_named(path: Path, foreign: Foreign
               ) -> tuple[State, dict[str, Any], list[str], KeyTable]:
    """Fill the network that ``foreign`` names from a checkpoint of it.

    Returns:
        Its weights, its provenance, lines that say what was built, dropped and assumed, and the
        table of keys.

    Raises:
        UsageError: the file is not readable without running code; the network cannot be built;
            tensors are missing, left over or of another shape; it fails on an image.
    """
    tensors, shells, foreign, taken = foreign_tensors(path, foreign)
    cfg = foreign.network
    backbone = build_backbone(cfg)
    arguments = {key: value for key, value in cfg.items() if key != 'type'}
    library, _, name = cfg['type'].partition('.')
    target = TRANSFER_TARGETS.get(library)()
    published = target.own_files(name, backbone, **arguments)
    candidates, tensors, dropped = _candidates(path, tensors, foreign, target, published)
    trials = [_try(layout, published, tensors, backbone, cfg) for layout in candidates]
    fits = {weights_hash(found.state): found for found in reversed(trials) if not found.reason}
    if not fits:
        best = max(trials, key=lambda found: len(found.keys.loaded))   # the library's own first
        raise UsageError(f'{path} does not fill {spelled(cfg)}, read as '
                         f'{best.layout.name}: {best.reason}; its keys begin with '
                         f'{starts_of(list(tensors))}'
                         + ('' if foreign.layout == AUTO else
                            '; --from auto tries the other layouts, too'))
    return account(path, fits, dropped, foreign, shells, taken)


def _candidates(path: Path, tensors: State, foreign: Foreign, target: TransferTarget,
                published: list[CheckpointLayout]
                ) -> tuple[list[CheckpointLayout], State, list[str]]:
    """The layouts to try, the tensors to try them on, and the keys that are out already."""
    if foreign.layout == target.name:   # its keys, and those that others have for its networks
        of_others = [one for one in target.checkpoints() if one.network is not None]
        return [*published, *of_others], tensors, []
    candidates, tensors, dropped = candidate_layouts(path, tensors, foreign.layout)
    layouts = [layout for _, layout in candidates]
    if foreign.layout.endswith('.'):   # the prefix is known: any of these, with the own input
        prefixed = layouts[0]
        layouts = [replace(one, name=prefixed.name, origin=prefixed.origin, others=r'(?!)',
                           prefix=prefixed.prefix) for one in published]
    return [*(published if foreign.layout == AUTO else []), *layouts], tensors, dropped


def _try(layout: CheckpointLayout, published: list[CheckpointLayout], tensors: State,
         backbone: nn.Module, cfg: dict[str, Any]) -> Found:
    parts = sort_tensors(tensors, layout)
    state = _backbone_part(parts, published, set(backbone.state_dict()))
    found = Found(layout, cfg, state, parts.dropped, [layout.name], reason=parts.reason)
    if not parts.reason:
        found.try_on(backbone)
    return found


def _backbone_part(parts: Parts, published: list[CheckpointLayout], owned: set[str]) -> State:
    """Without the heads of the whole network, which go to ``parts.dropped``."""
    heads = '|'.join(f'(?:{layout.heads})' for layout in published)
    out = [key for key in parts.backbone if key not in owned and re.fullmatch(heads, key)]
    parts.dropped += out
    return {key: value for key, value in parts.backbone.items() if key not in out}
