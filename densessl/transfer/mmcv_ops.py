"""A bridge for an mmcv without its compiled extension: detection runs on torchvision's kernels.

Importing this module installs it, so MMDetection's own tools work with one line in a config:

    custom_imports = dict(imports=['densessl.transfer.mmcv_ops'])

A tool that imports the models before it reads its config is started through this module instead:

    python -m densessl.transfer.mmcv_ops tools/test.py CONFIG CHECKPOINT

mmcv is published as source only. Built by pip without PyTorch it lacks ``mmcv._ext``, on
which all of ``mmcv.ops`` depends. The bridge is a module of that name. Where the compiled one
exists, it is used and nothing is replaced.
"""
from __future__ import annotations

import importlib.abc
import importlib.util
import os
import runpy
import sys
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, NoReturn

EXTENSION = 'mmcv._ext'
OPS = {  # by module of densessl.transfer.mmcv_kernels
    'boxes': ('nms', 'softnms', 'nms_match', 'bbox_overlaps'),
    'rois': ('roi_align_forward', 'roi_align_backward', 'roi_pool_forward', 'roi_pool_backward',
             'deform_roi_pool_forward', 'deform_roi_pool_backward'),
    'deform': ('deform_conv_forward', 'deform_conv_backward_input',
               'deform_conv_backward_parameters', 'modulated_deform_conv_forward',
               'modulated_deform_conv_backward'),
    'neighborhoods': ('carafe_forward', 'carafe_backward', 'carafe_naive_forward',
                      'carafe_naive_backward', 'psamask_forward', 'psamask_backward'),
    'attention': ('ms_deform_attn_forward', 'ms_deform_attn_backward'),
    'focal': ('sigmoid_focal_loss_forward', 'sigmoid_focal_loss_backward',
              'softmax_focal_loss_forward', 'softmax_focal_loss_backward'),
}


class MissingOpError(NotImplementedError):
    """An op that only mmcv's compiled extension has."""


class Bridge(ModuleType):
    """The module that stands in for ``mmcv._ext``.

    It has an answer for every op name, as ``mmcv.ops`` asks for all of them when it is imported;
    an op outside :data:`OPS` raises :class:`MissingOpError` when it is called.
    """

    def __init__(self) -> None:
        super().__init__(EXTENSION, __doc__)
        # mmengine looks for the spec, and mmcv for its loader, to see whether ops are available.
        self.__spec__ = ModuleSpec(EXTENSION, importlib.abc.Loader(), origin=__name__)
        for home, names in OPS.items():
            kernels = importlib.import_module(f'densessl.transfer.mmcv_kernels.{home}')
            for name in names:
                setattr(self, name, getattr(kernels, name))

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith('_'):
            raise AttributeError(f'module {EXTENSION!r} has no attribute {name!r}')
        return _missing_op(name)

    def get_compiler_version(self) -> str:
        import torchvision
        return f'none, kernels of torchvision {torchvision.__version__}'

    def get_compiling_cuda_version(self) -> str:
        import torch
        return torch.version.cuda or 'not available'


def install() -> bool:
    """Put the bridge in place of a missing ``mmcv._ext``; more than once is harmless.

    Returns True if the bridge is in place, False if there is nothing to do: mmcv is not installed,
    or its compiled extension is. mmcv itself is not imported.
    """
    if EXTENSION in sys.modules:
        return isinstance(sys.modules[EXTENSION], Bridge)
    if not _extension_is_missing():
        return False
    if 'mmcv.utils.ext_loader' in sys.modules:  # left behind by a failed import of mmcv.ops
        warnings.warn(
            'mmcv.ops was imported, and failed, before its bridge was installed. Modules that '
            f'tried it keep their fallbacks: import {__name__} before them.', stacklevel=2)
    sys.modules[EXTENSION] = Bridge()
    if 'mmcv' in sys.modules:  # what the import system does for a submodule
        sys.modules['mmcv']._ext = sys.modules[EXTENSION]
    return True


def _extension_is_missing() -> bool:
    """True if mmcv is installed without the extension; finds both without importing either."""
    mmcv = importlib.util.find_spec('mmcv')
    if mmcv is None or mmcv.submodule_search_locations is None:
        return False
    return PathFinder.find_spec(EXTENSION, mmcv.submodule_search_locations) is None


def _missing_op(name: str) -> Callable[..., NoReturn]:
    def op(*args: Any, **kwargs: Any) -> NoReturn:
        import torch
        raise MissingOpError(
            f'{name!r} needs the compiled extension of mmcv, which is not installed; densessl '
            'supplies the common detection ops without a compiler, not this one. To compile mmcv '
            f'for PyTorch {torch.__version__} (CUDA: {torch.version.cuda or "none"}), with a C++ '
            'compiler, for CUDA also nvcc of that version and FORCE_CUDA=1, run:\n'
            '    pip install --no-build-isolation --no-deps --no-cache-dir --force-reinstall '
            '--no-binary onedl-mmcv onedl-mmcv')

    op.__name__ = name
    return op


def main() -> None:
    """Run the script named on the command line as Python would, with the bridge in place."""
    if len(sys.argv) < 2:
        print(f'usage: python -m {__name__} SCRIPT [ARGUMENT ...]', file=sys.stderr)
        raise SystemExit(2)
    del sys.argv[0]
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    runpy.run_path(sys.argv[0], run_name='__main__')


if __name__ == '__main__':
    # Under its own name, as a config imports it: otherwise there would be two kinds of Bridge.
    from densessl.transfer import mmcv_ops
    mmcv_ops.main()
else:
    install()
