"""Open foreign ``.pth`` files that hold more than tensors, without running anything in them.

Many published checkpoints carry an ``argparse.Namespace``, a Lightning or OmegaConf object or a
NumPy scalar beside the weights, and ``torch.load(weights_only=True)`` refuses them. Here every
class of such a file is replaced by an empty shell: nothing of it is imported, called or even
looked up; the tensors around it come out as usual. Given to ``torch.load`` as its
``pickle_module``.
"""
from __future__ import annotations

import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import _utils

from densessl.errors import UsageError

# What rebuilds tensors; each of these computes nothing but a view of a storage.
_REAL = {('collections', 'OrderedDict'): OrderedDict,
         ('torch._utils', '_rebuild_tensor_v2'): _utils._rebuild_tensor_v2,
         ('torch._utils', '_rebuild_parameter'): _utils._rebuild_parameter,
         ('torch.nn.parameter', 'Parameter'): torch.nn.Parameter,
         ('torch', 'Size'): torch.Size,
         **{('torch', name): value for name, value in vars(torch).items()
            if isinstance(value, torch.dtype)}}
# The standard library's plain data, which checkpoints hold as settings. Any other name of the
# standard library in a pickle is a call to it: what an attack looks like.
_DATA = {'argparse', 'collections', 'copyreg', '_codecs', 'datetime', 'decimal', 'enum',
         'fractions', 'pathlib', 'types', 'uuid'}
_BUILTIN_DATA = {'bool', 'bytearray', 'bytes', 'complex', 'dict', 'float', 'frozenset', 'int',
                 'list', 'object', 'range', 'set', 'slice', 'str', 'tuple'}


class Shell:
    """Stands for an object whose class is not to be imported; takes whatever is done to it."""

    dump_patches = False   # torch asks old files' modules whether to write their source as patches

    def _ignore(self, *args: Any, **kwargs: Any) -> None:
        pass

    __init__ = __setstate__ = __setitem__ = append = extend = add = _ignore


class Unpickler(pickle.Unpickler):
    """An unpickler that imports nothing.

    Raises:
        UsageError: the file refers to something of the standard library that is not plain data.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _REAL:
            return _REAL[module, name]
        package = module.partition('.')[0]
        if package in ('builtins', '__builtin__'):
            harmless = name in _BUILTIN_DATA
        else:
            harmless = package in _DATA or package not in {*sys.stdlib_module_names, 'nt', 'posix'}
        if not harmless:
            raise UsageError(f'it calls {module}.{name} when it is opened, as no checkpoint needs '
                             f'to; nothing was run')
        return Shell


def load(file: Any, **kwargs: Any) -> Any:
    """Like ``pickle.load``; the old format's magic number is read by it."""
    return Unpickler(file, **kwargs).load()


def load_inert(path: Path) -> Any:
    """The content of a PyTorch file on the CPU; objects other than tensors and plain containers
    come out as :class:`Shell`, whose source torch may warn that it is not the class's.

    Raises:
        UsageError: the file calls the standard library.
    """
    return torch.load(path, map_location='cpu', weights_only=False,
                      pickle_module=sys.modules[__name__])
