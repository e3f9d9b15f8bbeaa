"""The transfer target ``mmseg``: builds its backbones and fine-tunes its segmentors."""
from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from difflib import get_close_matches
from typing import Any, ClassVar

from torch import Tensor, nn

from densessl import TransferTarget
from densessl.errors import UsageError


class MMSegmentation(TransferTarget):
    name = 'mmseg'
    finetunes = True
    config_packages: ClassVar[dict[str, str]] = {'mmseg': 'onedl-mmsegmentation'}

    def prepare(self) -> None:
        from densessl.transfer.mmcv_ops import install
        install()
        with redirect_stdout(io.StringIO()):   # it prints which optional parts it does not find
            import mmseg.datasets
            import mmseg.engine
            import mmseg.evaluation
            import mmseg.models
            import mmseg.visualization  # noqa: F401

    def build_backbone(self, name: str, **kwargs: Any) -> nn.Module:
        self.prepare()
        from mmseg.models import backbones
        from mmseg.registry import MODELS
        if MODELS.get(name) is None:
            close = ', '.join(get_close_matches(name, backbones.__all__, n=5, cutoff=0.4))
            raise UsageError(f'unknown mmseg backbone {name!r}; close to it: {close or "nothing"}; '
                             f'all of them: mmseg.models.backbones.__all__')
        try:
            backbone = MODELS.build({'type': name, '_scope_': self.name, **kwargs})
        except (TypeError, ValueError, KeyError, AssertionError) as error:
            raise UsageError(f'mmseg.{name} cannot be built: {error.args[0]}') from error
        with _quiet_log():
            backbone.init_weights()
        backbone.is_init = True   # mmengine initializes what is not; some overrides forget to say
        backbone.register_forward_hook(_finest_first)
        return backbone

    def translate(self, state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
        from densessl.transfer.layouts import is_plain_resnet
        if source.partition('.')[0] == self.name or is_plain_resnet(state):
            return dict(state)
        raise UsageError(
            f'no exact translation of {source!r} to mmseg is known; possible are mmseg backbones '
            f'and ResNets with a plain 7×7 stem from any library')


def _finest_first(module: nn.Module, args: Any, maps: Any) -> tuple[Tensor, ...]:
    from densessl.backbones import finest_first
    return finest_first(maps)


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Without mmengine's report on the initialization of every single parameter."""
    from mmengine.logging import MMLogger
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
