"""From a pretraining checkpoint to ``backbone.pth``: plain weights that say where they are from."""
from __future__ import annotations

import hashlib
import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from densessl.backbones import build_backbone
from densessl.errors import UsageError
from densessl.files import atomic_path
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.handoff import FeatureCheck, KeyTable, compare_features, compare_keys
from densessl.transfer.target import State

PREFIX = 'backbone.'
# what PyTorch says of objects that are no tensors; of other files it says what it stumbled over
_OBJECTS = re.compile('Unsupported (global|class)|unrecognized function|Can only build')
_PROVENANCE = ('method', 'backbone', 'mean', 'std', 'channel_order')   # what the hand-off reads


@dataclass
class Exported:
    """What an export wrote, and how the foreign copy was checked."""

    path: Path
    state: State
    meta: dict[str, Any]
    copy: Path | None = None
    counterpart: dict[str, Any] | None = None   # the target's backbone the copy was checked on
    keys: KeyTable | None = None
    features: FeatureCheck | None = None
    unchanged: list[Path] = field(default_factory=list)   # were there already, with these weights


def export_backbone(checkpoint: str | Path, out: str | Path | None = None, to: str | None = None,
                    overwrite: bool = False) -> Exported:
    """Write the backbone of a pretraining checkpoint as a neutral file.

    The file is ``{'state_dict': the backbone's own keys, 'meta': provenance and 'sha256'}`` and
    opens with ``torch.load(path, weights_only=True)``.

    Args:
        checkpoint: a checkpoint of ``densessl train``, or a backbone that was exported before.
        out: where to write (default: ``backbone.pth`` next to the checkpoint).
        to: the transfer target that also gets a copy in its keys, ``out`` with ``_to`` appended.
        overwrite: replace files that hold other weights.

    Raises:
        UsageError: not a checkpoint with a backbone and provenance, no exact translation, or a
            file in the way.
    """
    checkpoint = Path(checkpoint)
    state, meta = read_backbone(checkpoint)
    out = Path(out) if out else checkpoint.with_name('backbone.pth')
    if out.is_dir():
        raise UsageError(f'--out {out} is a folder; name a file')
    exported = Exported(out, state, meta)
    writes = [(out, state, meta)]
    if to is not None:
        exported.copy = out.with_name(f'{out.stem}_{to}{out.suffix}')
        writes.append((exported.copy, _translated(exported, to), {**meta, 'keys': to}))
    for path, weights, _ in writes:
        _refuse_to_lose(path, weights, checkpoint, overwrite, exported)
    for path, weights, about in writes:
        if path not in exported.unchanged:
            save_backbone(path, weights, about)
    return exported


def save_backbone(path: Path, state: State, meta: dict[str, Any]) -> None:
    """Write weights and their provenance atomically; ``meta`` gets the ``sha256`` of ``state``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as unfinished:
        torch.save({'state_dict': state, 'meta': {**meta, 'sha256': weights_hash(state)}},
                   unfinished)


def load_backbone_file(path: str | Path) -> tuple[State, dict[str, Any]]:
    """Read an exported ``backbone.pth``.

    Returns:
        Its state dict, in the keys of the library it was built from, and its provenance.

    Raises:
        UsageError: no such file, not an exported backbone, or its weights were changed.
    """
    path = Path(path)
    content = load_weights_only(path)
    state, meta = content.get('state_dict'), content.get('meta')
    if isinstance(meta, dict) and isinstance(meta.get('densessl'), dict):
        raise UsageError(f'{path} is a training checkpoint; take its backbone out first: '
                         f'densessl export {path}')
    if not isinstance(state, dict) or not isinstance(meta, dict) or 'sha256' not in meta:
        raise UsageError(f'{path} is not an exported backbone (no state_dict with provenance); '
                         f'such a file is written by: densessl export CHECKPOINT')
    if 'keys' in meta:
        raise UsageError(f'{path} is a copy with the keys of {meta["keys"]!r}; give the neutral '
                         f'file it was exported beside, it is translated here')
    _check_provenance(meta, path)
    if weights_hash(state) != meta['sha256']:
        raise UsageError(f'{path} is damaged or was edited: its weights do not have the sha256 '
                         f'that it was written with')
    return state, meta


def read_backbone(path: Path) -> tuple[State, dict[str, Any]]:
    """The backbone's weights and provenance in a training checkpoint or an exported file."""
    content = load_weights_only(path)
    state, meta = content.get('state_dict'), content.get('meta')
    if not isinstance(state, dict):
        raise UsageError(f'{path} is not a checkpoint of densessl train: it has no state_dict')
    if isinstance(meta, dict) and 'sha256' in meta:
        return load_backbone_file(path)
    provenance = meta.get('densessl') if isinstance(meta, dict) else None
    if not isinstance(provenance, dict):
        raise UsageError(f'{path} says nothing about its backbone (no provenance in its meta); '
                         f'only checkpoints of densessl train can be exported')
    _check_provenance(provenance, path)
    backbone = {key.removeprefix(PREFIX): value for key, value in state.items()
                if key.startswith(PREFIX)}
    if not backbone:
        raise UsageError(f'{path} holds no backbone: none of its {len(state)} keys starts with '
                         f'{PREFIX!r}')
    return backbone, provenance


def load_weights_only(path: Path) -> dict[str, Any]:
    """Open a ``.pth`` without running any code in it.

    Raises:
        UsageError: there is no such file, it is no such file, or it wants to run code.
    """
    if not path.is_file():
        raise UsageError(f'no file {path}' + (' (it is a folder)' if path.is_dir() else ''))
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        reason = ('it holds Python objects, and opening them would run code of whoever wrote it'
                  if _OBJECTS.search(str(error)) else 'it is no PyTorch file')
        raise UsageError(f'{path} is refused: {reason}') from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise UsageError(f'{path} cannot be read as a PyTorch file: {error}'.splitlines()[0]
                         ) from error
    if not isinstance(content, dict):
        raise UsageError(f'{path} holds a {type(content).__name__}, not a checkpoint')
    return content


def weights_hash(state: State) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}\n'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_provenance(meta: dict[str, Any], path: Path) -> None:
    missing = [key for key in _PROVENANCE if key not in meta]
    if missing:
        raise UsageError(f'{path} does not say the {", ".join(missing)} of its pretraining')


def _translated(exported: Exported, to: str) -> State:
    """The weights in the keys of target ``to``, checked on its counterpart where there is one."""
    target, meta = TRANSFER_TARGETS.get(to)(), exported.meta
    state = target.translate(exported.state, meta['backbone']['type'])
    exported.counterpart = target.counterpart(state, meta['backbone'])
    if exported.counterpart is not None:
        backbone = build_backbone(exported.counterpart)
        backbone.load_state_dict(state, strict=False)
        added = target.added_modules(backbone, state)
        exported.keys = compare_keys(state, {'': backbone}, added)
        exported.keys.require_complete(meta['backbone']['type'], to)
        exported.features = compare_features(exported.state, meta, backbone, added)
        exported.features.require_equal(to)
    return state


def _refuse_to_lose(path: Path, state: State, source: Path, overwrite: bool,
                    exported: Exported) -> None:
    """Nothing is written over: not the input, and other weights only when told to."""
    if not path.exists():
        return
    same_file = path.samefile(source)
    if path.is_file():
        try:
            old = load_weights_only(path)
        except UsageError:
            old = {}
        if (old.get('meta') or {}).get('sha256') == weights_hash(state):
            exported.unchanged.append(path)
            return
    if same_file:
        raise UsageError(f'--out {path} is the checkpoint itself; name another file')
    if not overwrite:
        raise UsageError(f'{path} exists and holds something else; name another file with --out '
                         f'or add --overwrite')
