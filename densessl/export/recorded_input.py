"""The input normalization that a foreign checkpoint records: in buffers of its data preprocessor,
or in the text of its config, which is read and never run."""
from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from torch import Tensor

from densessl.bounds import is_number

_PREPROCESSORS = ('data_preprocessor', 'img_norm_cfg')    # mmengine's, and that of mmcv 1
_BUFFERS = ('data_preprocessor.mean', 'data_preprocessor.std')
_SWAPS = ('bgr_to_rgb', 'to_rgb')


def recorded_input(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """``mean``, ``std`` and ``channel_order``, as far as a checkpoint tells them.

    Args:
        content: of the file. tensors: those in it, by their dotted path.

    Returns:
        Those that are there, of pixels 0 … 255; nothing where a config names several that differ.
    """
    meta = content.get('meta')
    text = next((meta[key] for key in ('cfg', 'config') if isinstance(meta.get(key), str)), '') \
        if isinstance(meta, Mapping) else ''
    found = _in_config(text)
    buffers = [next((value for key, value in tensors.items() if key.endswith(name)), None)
               for name in _BUFFERS]
    if all(value is not None and value.numel() == 3 for value in buffers):
        mean, std = (tuple(value.flatten().tolist()) for value in buffers)
        if _plausible(mean, std):
            found.update(mean=mean, std=std)
    return found


def _in_config(text: str) -> dict[str, Any]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    inputs = []
    for values in _preprocessors(tree):
        mean, std = values.get('mean'), values.get('std')
        if mean and std and _plausible(mean, std):
            swaps = [values[key] for key in _SWAPS if isinstance(values.get(key), bool)]
            order = {'channel_order': 'RGB' if swaps[0] else 'BGR'} if swaps else {}
            inputs.append({'mean': tuple(map(float, mean)), 'std': tuple(map(float, std)), **order})
    return inputs[0] if inputs and all(one == inputs[0] for one in inputs) else {}


def _preprocessors(tree: ast.AST) -> Iterator[dict[str, Any]]:
    """The plain values in what is assigned or passed under the name of a preprocessor, or stands
    under it in a dict."""
    for node in ast.walk(tree):
        for name, preprocessor in _assignments(node):
            if name in _PREPROCESSORS:
                values = {}
                for key, value in _assignments(preprocessor):
                    # passed over: names, expressions, dicts whose keys are lists
                    with suppress(ValueError, TypeError):
                        values[key] = ast.literal_eval(value)
                yield values


def _assignments(node: ast.AST) -> list[tuple[Any, ast.expr]]:
    """The names and values in an assignment, a call such as ``dict(…)``, or ``{…}``."""
    if isinstance(node, ast.Assign):
        return [(getattr(target, 'id', None), node.value) for target in node.targets]
    if isinstance(node, ast.Call):
        return [(keyword.arg, keyword.value) for keyword in node.keywords]
    if isinstance(node, ast.Dict):
        return [(getattr(key, 'value', None), value)
                for key, value in zip(node.keys, node.values, strict=True)]
    return []


def _plausible(mean: Any, std: Any) -> bool:
    return all(isinstance(one, (list, tuple)) and len(one) == 3 and all(map(is_number, one))
               for one in (mean, std)) and min(std) > 0
