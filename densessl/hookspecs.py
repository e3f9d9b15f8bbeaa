"""The extension points of densessl: this file *is* the plugin API.

A plugin is a package with an entry point in the group ``densessl``::

    # setup.cfg of the plugin's own project
    [options.entry_points]
    densessl =
        mine = densessl_mine

    # densessl_mine/__init__.py: the manifest
    from densessl import hookimpl

    @hookimpl
    def methods():
        from densessl_mine.method import MyMethod   # imported only when it is asked for
        return [MyMethod]

Every hook is called once, by :func:`densessl.plugins.load_plugins`, and returns *classes* (or
paths); the core registers them under their ``name``, so that every error can name the plugin.
"""
from __future__ import annotations

from pathlib import Path

import pluggy

GROUP = 'densessl'
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def methods() -> list[type]:
    """Pretraining methods: subclasses of :class:`densessl.Method`.

    Registered in ``METHODS`` under the class's ``name``; a config chooses one by
    ``model = dict(type='name', …)``.
    """


@hookspec
def mask_generators() -> list[type]:
    """Region mask generators: subclasses of :class:`densessl.MaskGenerator`.

    Registered in ``MASK_GENERATORS`` under the class's ``name``; a config chooses one by
    ``masks = dict(type='name', …)``, ``make_masks`` by ``--generator name``.
    """


@hookspec
def transfer_targets() -> list[type]:
    """Downstream libraries: subclasses of :class:`densessl.TransferTarget`.

    Registered in ``TRANSFER_TARGETS`` under the class's ``name``, which is also the prefix of the
    backbones it builds (``backbone = dict(type='name.resnet50')``) and the value of ``--to``.
    """


@hookspec
def config_folders() -> list[Path]:
    """Folders of config files. ``densessl train folder/config`` finds ``folder/config.py`` in
    them by name, after a path on disk and densessl's own configs."""
