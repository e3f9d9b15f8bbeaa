"""Tensors out of a file: how large, how deep and of what kind they may be, before any is used."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densessl.engine.finite import first_not_finite
from densessl.errors import UsageError, escaped
from densessl.files.opening import unpacked_size

SLACK = 64 << 20        # bytes that small repeated tensors may take beyond the size of their file
MAX_DEPTH = 64          # containers within containers
MAX_CONTAINERS = 200_000
_REMEDY = 'save it again with torch.save, as plain tensors'


def refuse_inflated(path: Path) -> None:
    """Refuse a ``.pth`` whose records say that they are larger than the file, before it is opened:
    PyTorch stores them as they are, so what is packed was made to fill the memory.

    Raises:
        UsageError: it says so.
    """
    declared, size = unpacked_size(path), path.stat().st_size
    if declared is not None and declared > size:
        raise UsageError(f'{path} is refused: it has {_bytes(size)}, but unpacks to '
                         f'{_bytes(declared)}; {_REMEDY}')


def check_tensors(content: Any, path: Path) -> None:
    """Check what was read from the file ``path``.

    Raises:
        UsageError: a tensor is not a dense one of plain numbers, all of them together are far
            larger than the file, or containers are nested too deeply.
    """
    total, seen = 0, set()
    for key, value in _tensors(content, path):
        kind = _odd_kind(value)
        if kind:
            raise UsageError(f'{path} is refused: its tensor {escaped(key[:200])} is {kind}, not '
                             f'a plain one in memory; {_REMEDY}')
        storage, size = value.untyped_storage(), value.numel() * value.element_size()
        if size > storage.nbytes():     # one number that stands for many
            total += size
        elif storage._cdata not in seen:
            seen.add(storage._cdata)
            total += storage.nbytes()
    size = path.stat().st_size
    if total > size + SLACK:
        raise UsageError(f'{path} is refused: it has {_bytes(size)}, but its tensors would take '
                         f'{_bytes(total)}; {_REMEDY}')


def check_state(state: Mapping[Any, Any], path: Path) -> None:
    """Check that a state dict has names for keys and tensors for values.

    Raises:
        UsageError: it has something else.
    """
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            what = type(value).__name__ if isinstance(key, str) else type(key).__name__
            named = f'under {escaped(key[:200])}' if isinstance(key, str) else 'for a name'
            raise UsageError(f'{path} is refused: its state_dict has a {what} {named}, not a '
                             f'tensor with a name; {_REMEDY}')


def check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Check that nothing but finite numbers is in a state dict.

    Raises:
        UsageError: there is; the message names the key.
    """
    broken = first_not_finite(state)
    if broken is not None:
        raise UsageError(f'{path} is refused: {escaped(broken[:200])} holds infinities or NaN: '
                         f'nothing can be computed with it; take other weights')


def _tensors(content: Any, path: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested containers with its dotted key; containers that are shared count as
    often as they are met, as they would for any code that walks through them."""
    stack, count = [('', content, 0)], 0
    while stack:
        at, value, depth = stack.pop()
        if isinstance(value, Tensor):
            yield at, value
        elif isinstance(value, (Mapping, list, tuple)):
            count += 1
            if depth >= MAX_DEPTH or count > MAX_CONTAINERS:
                raise UsageError(f'{path} is refused: it holds more than {MAX_CONTAINERS} lists '
                                 f'and dicts, or some nested more than {MAX_DEPTH} deep; '
                                 f'{_REMEDY}')
            pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
            stack += [(f'{at}.{key}' if at else str(key), one, depth + 1) for key, one in pairs
                      if isinstance(one, (Tensor, Mapping, list, tuple))]


def _odd_kind(value: Tensor) -> str:
    if value.layout is not torch.strided:
        return 'sparse' if value.is_sparse or 'sparse' in str(value.layout) else 'nested'
    if value.is_quantized:
        return 'quantized'
    if value.device.type != 'cpu':
        return f'on the device {value.device.type}'
    return ''


def _bytes(number: int) -> str:
    return f'{number / 1e9:.1f} GB' if number >= 1e9 else f'{number / 1e6:.1f} MB'
