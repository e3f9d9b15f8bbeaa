"""From a pretraining checkpoint to ``backbone.pth``: plain weights that say where they are from."""
from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densessl.errors import UsageError, shown
from densessl.export.foreign import read_foreign
from densessl.export.foreign_file import Foreign
from densessl.export.named_network import read_named
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.handoff import FeatureCheck, KeyTable, compare_features, compare_keys
from densessl.transfer.translate import counterpart, translate
from densessl.weights.backbone_file import (
    SAFETENSORS,
    load_backbone_file,
    load_weights_only,
    save_backbone,
    weights_hash,
)
from densessl.weights.keymap import State
from densessl.weights.provenance import check_provenance
from densessl.weights.stated_backbone import build_stated
from densessl.weights.stored_tensors import check_finite, check_state

PREFIX = 'backbone.'
_SHOWN = 4      # settings that differ


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
    unchanged: list[Path] = field(default_factory=list)   # were there already, as they are
    notes: list[str] = field(default_factory=list)   # on an import: detected, dropped, assumed
    filled: KeyTable | None = None   # of an import into a named network: where its keys are from
    safetensors: Path | None = None   # the same weights in that format


def export_backbone(checkpoint: str | Path, out: str | Path | None = None, to: str | None = None,
                    overwrite: bool = False, foreign: Foreign | None = None,
                    safetensors: bool = False) -> Exported:
    """Write the backbone of a checkpoint as a neutral file.

    The file is ``{'state_dict': the backbone's own keys, 'meta': provenance and 'sha256'}`` and
    opens with ``torch.load(path, weights_only=True)``.

    Args:
        checkpoint: a checkpoint of ``densessl train``, a backbone that was exported before, or
            with ``foreign`` somebody else's.
        out: where to write (default: ``backbone.pth`` next to the checkpoint).
        to: the transfer target that also gets a copy in its keys, ``out`` with ``_to`` appended.
        overwrite: replace files that hold other weights, or these with another provenance.
        foreign: what is known of a checkpoint that densessl did not write.
        safetensors: write ``out`` also in that format, with the same provenance.

    Raises:
        UsageError: not a checkpoint with a backbone and provenance, no exact translation, or a
            file in the way.
    """
    checkpoint = Path(checkpoint)
    notes: list[str] = []
    filled: KeyTable | None = None
    if foreign is None:
        state, meta = read_backbone(checkpoint)
    elif foreign.network:
        state, meta, notes, filled = read_named(checkpoint, foreign)
    else:
        state, meta, notes = read_foreign(checkpoint, foreign)
    out = Path(out) if out else checkpoint.with_name('backbone.pth')
    if out.is_dir():
        raise UsageError(f'--out {out} is a folder; name a file')
    if out.suffix == SAFETENSORS:
        raise UsageError(f'--out {out}: name the .pth; --safetensors writes the other beside it')
    exported = Exported(out, state, meta, notes=notes, filled=filled)
    writes = [(out, state, meta)]
    if safetensors:
        exported.safetensors = out.with_suffix(SAFETENSORS)
        writes.append((exported.safetensors, state, meta))
    if to is not None:
        exported.copy = out.with_name(f'{out.stem}_{to}{out.suffix}')
        writes.append((exported.copy, _translated(exported, to), {**meta, 'keys': to}))
    for path, weights, about in writes:
        if _is_there(path, {**about, 'sha256': weights_hash(weights)}, checkpoint, overwrite):
            exported.unchanged.append(path)
    for path, weights, about in writes:
        if path not in exported.unchanged:
            save_backbone(path, weights, about)
    return exported


def read_backbone(path: Path) -> tuple[State, dict[str, Any]]:
    """The backbone's weights and provenance in a training checkpoint or an exported file."""
    content = load_weights_only(path)
    state, meta = content.get('state_dict'), content.get('meta')
    if not isinstance(state, dict):
        raise UsageError(f'{path} is not a checkpoint of densessl train: it has no state_dict; '
                         f'find the backbone of another one with --from auto')
    if isinstance(meta, dict) and 'sha256' in meta:
        return load_backbone_file(path)
    provenance = meta.get('densessl') if isinstance(meta, dict) else None
    if not isinstance(provenance, dict):
        raise UsageError(f'{path} says nothing about its backbone (no provenance in its meta); '
                         f'of a checkpoint that densessl train did not write, find the backbone '
                         f'with --from auto')
    check_provenance(provenance, path)
    check_state(state, path)
    check_finite(state, path)
    backbone = {key.removeprefix(PREFIX): value for key, value in state.items()
                if key.startswith(PREFIX)}
    if not backbone:
        raise UsageError(f'{path} holds no backbone: none of its {len(state)} keys starts with '
                         f'{PREFIX!r}')
    return backbone, provenance


def _translated(exported: Exported, to: str) -> State:
    """The weights in the keys of target ``to``, checked on its counterpart where there is one."""
    target, meta = TRANSFER_TARGETS.get(to)(), exported.meta
    state = translate(target, exported.state, meta['backbone']['type'])
    exported.counterpart = counterpart(target, state, meta['backbone'])
    if exported.counterpart is not None:
        backbone = build_stated(exported.counterpart, 'the copy')
        backbone.load_state_dict(state, strict=False)
        added = target.added_modules(backbone, state)
        exported.keys = compare_keys(state, {'': backbone}, added)
        exported.keys.require_complete(meta['backbone']['type'], to)
        exported.features = compare_features(exported.state, meta, backbone, added)
        exported.features.require_equal(to)
    return state


def _is_there(path: Path, meta: dict[str, Any], source: Path, overwrite: bool) -> bool:
    """Whether ``path`` holds the weights and the provenance of ``meta`` already. Nothing is written
    over: not the input, and other content only when told to."""
    if not path.exists():
        return False
    held = 'something else'
    if path.is_file():
        with suppress(UsageError):      # what cannot be read is something else
            before = load_weights_only(path).get('meta')
            if isinstance(before, dict) and before.get('sha256') == meta['sha256']:
                was, now = _plain(before), _plain(meta)
                other = [f'{key} {shown(was.get(key))}, not {shown(now.get(key))}'
                         for key in {**now, **was} if was.get(key) != now.get(key)]
                if not other:
                    return True
                held = f'these weights with another provenance ({"; ".join(other[:_SHOWN])})'
    if path.samefile(source):
        raise UsageError(f'--out {path} is the checkpoint itself; name another file')
    if not overwrite:
        raise UsageError(f'{path} exists and holds {held}; name another file with --out or add '
                         f'--overwrite')
    return False


def _plain(meta: dict[str, Any]) -> dict[str, Any]:
    """Provenance as either format gives it back, without the versions that wrote it and the name
    and the hash of a file that was imported."""
    plain = json.loads(json.dumps(meta, default=str, skipkeys=True))
    imported = plain.pop('imported', None) or {}
    plain |= {f'imported.{key}': value for key, value in imported.items()}
    return {key: value for key, value in plain.items()
            if key not in ('densessl', 'torch', 'imported.file', 'imported.file_sha256')}
