"""Files of weights: opened without running code, written with provenance and a hash."""
from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from densessl.engine.checkpoint_file import require_whole, write_checkpoint
from densessl.errors import UsageError, shown
from densessl.files.json_files import parse_json
from densessl.files.writing import atomic_path
from densessl.weights.inert_pickle import Shell, load_inert
from densessl.weights.keymap import State
from densessl.weights.provenance import check_provenance
from densessl.weights.stored_tensors import (
    check_finite,
    check_state,
    check_tensors,
    refuse_inflated,
)

RANDOM = 'random'       # instead of a file: weights that have learned nothing
SAFETENSORS = '.safetensors'
CHECKSUM = 'densessl_sha256'    # of the provenance, in the metadata of that format
# what PyTorch says of objects that are not tensors; of other files it says where reading failed
_OBJECTS = re.compile(
    '[Uu]nsupported (global|GLOBAL|class)|unrecognized function|Can only build')
# where bytes of something else were taken for instructions, the error's own message says nothing
_NOISE = 'it is not a PyTorch file, or is damaged'


def save_backbone(path: Path, state: State, meta: dict[str, Any]) -> None:
    """Write weights and their provenance atomically; ``meta`` gets the ``sha256`` of ``state``.

    A path that ends in ``.safetensors`` gets that format, with the provenance as JSON under
    ``densessl`` in its metadata.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = {**meta, 'sha256': weights_hash(state)}
    if path.suffix != SAFETENSORS:
        write_checkpoint({'state_dict': state, 'meta': meta}, path)
        return
    from safetensors.torch import save
    about = json.dumps(meta)
    with atomic_path(path) as unfinished:
        # a copy each: the format has no views, shared storages or strides
        unfinished.write_bytes(save(
            {key: value.detach().clone(memory_format=torch.contiguous_format)
             for key, value in state.items()},
            metadata={'format': 'pt', 'densessl': about, CHECKSUM: _checksum(about)}))


def load_backbone_file(path: str | Path) -> tuple[State, dict[str, Any]]:
    """Read an exported ``backbone.pth`` or ``backbone.safetensors``.

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
                         f'such a file is written by: densessl export CHECKPOINT, with --from '
                         f'auto for weights that come from elsewhere')
    if 'keys' in meta:
        raise UsageError(f'{path} is a copy with the keys of {shown(meta["keys"])}; give the '
                         f'neutral file that it was exported with; it is translated here')
    check_provenance(meta, path)
    check_state(state, path)
    if weights_hash(state) != meta['sha256']:
        raise UsageError(f'{path} is damaged or was edited: its weights do not have the sha256 '
                         f'that it was written with')
    check_finite(state, path)
    return state, meta


def load_weights_only(path: Path) -> dict[str, Any]:
    """Open a ``.pth`` without running any code in it, or a ``.safetensors``.

    Raises:
        UsageError: it does not exist, is not such a file, or wants to run code.
    """
    try:
        return _open(path)
    except pickle.UnpicklingError as error:
        reason = ('it holds Python objects, and opening them would run code of whoever wrote it '
                  '(densessl export --from auto reads the weights beside them)'
                  if _OBJECTS.search(str(error)) else 'it is not a PyTorch file')
        raise UsageError(f'{path} is refused: {reason}') from error


def load_foreign(path: Path) -> tuple[dict[str, Any], bool]:
    """Open somebody else's checkpoint without running any code in it.

    Returns:
        Its content, and whether there were objects in it whose classes were left aside
        (:mod:`densessl.weights.inert_pickle`).

    Raises:
        UsageError: it does not exist, is not such a file, or looks like an attack.
    """
    try:
        return _open(path), False
    except pickle.UnpicklingError as error:
        if not _OBJECTS.search(str(error)):
            raise UsageError(f'{path} is refused: it is not a PyTorch file') from error
    try:
        return _dict(_load(path, lambda: load_inert(path)), path), True
    except (pickle.UnpicklingError, TypeError, AttributeError, IndexError) as error:
        raise UsageError(f'{path} is refused: its objects are not plain data '
                         f'({type(error).__name__}: {error})'.splitlines()[0]) from error


def is_own(content: Mapping[str, Any]) -> bool:
    """Whether densessl wrote the file with this content: a checkpoint of a run, or a backbone."""
    meta = content.get('meta')
    return isinstance(meta, dict) and ('sha256' in meta or 'densessl' in meta)


def weights_hash(state: State) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().resolve_conj().resolve_neg().contiguous()
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}\n'.encode(
            'utf-8', 'surrogatepass'))
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _open(path: Path) -> dict[str, Any]:
    """The content of a file that holds plain data.

    Raises:
        UsageError: it does not exist, or is not such a file.
        pickle.UnpicklingError: it holds Python objects, or is no file of PyTorch's.
    """
    if not path.is_file():
        raise UsageError(f'no file {path}' + (' (it is a folder)' if path.is_dir() else ''))
    if path.suffix == SAFETENSORS:
        return _load_safetensors(path)
    require_whole(path)
    refuse_inflated(path)
    try:
        content = _load(path, lambda: torch.load(path, map_location='cpu', weights_only=True))
    except (IndexError, TypeError, AttributeError) as error:
        raise UsageError(f'{path} is refused: {_NOISE}') from error
    return _dict(content, path)


def _load(path: Path, load: Any) -> Any:
    try:
        with warnings.catch_warnings():     # torch's, of odd pickles: our line is enough
            warnings.simplefilter('ignore')
            return load()
    except UsageError as error:
        raise UsageError(f'{path} is refused: {error}') from error
    except (AssertionError, KeyError, MemoryError, OverflowError, UnicodeDecodeError,
            EOFError) as error:
        raise UsageError(f'{path} is refused: {_NOISE}') from error
    except (RuntimeError, ValueError, OSError) as error:
        raise UsageError(f'{path} cannot be read as a PyTorch file: {error}'.splitlines()[0]
                         ) from error


def _load_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, framework='pt') as file:
            content: dict[str, Any] = {'state_dict': {key: file.get_tensor(key)
                                                      for key in file.keys()}}
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, RuntimeError, ValueError, AttributeError) as error:
        raise UsageError(f'{path} cannot be read as a safetensors file: {error}'.splitlines()[0]
                         ) from error
    about = metadata.get('densessl')
    if about is None:
        return content
    if metadata.get(CHECKSUM, _checksum(about)) != _checksum(about):
        raise UsageError(f'{path} is damaged or was edited: its provenance does not have the '
                         f'sha256 that it was written with')
    try:
        return {**content, 'meta': parse_json(about)}
    except ValueError as error:
        raise UsageError(f'{path} is damaged: its provenance is not JSON ({error}); export it '
                         f'again') from error


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _dict(content: Any, path: Path) -> dict[str, Any]:
    if isinstance(content, Shell):
        raise UsageError(f'{path} holds a whole model object, not its weights: save '
                         f'model.state_dict() where its class is known')
    if not isinstance(content, dict):
        raise UsageError(f'{path} holds a {type(content).__name__}, not a checkpoint')
    check_tensors(content, path)
    return content
