"""The transfer target ``mmseg``: builds its backbones and fine-tunes its segmentors."""
from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from densessl import TransferTarget
from densessl.errors import UsageError

if TYPE_CHECKING:
    from mmengine import Config

    from densessl.transfer.recipe import Recipe
    from densessl.transfer.target import State


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
        from densessl_plugins.mmseg.data import register
        register()

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

    def translate(self, state: State, source: str) -> State:
        from densessl.transfer.layouts import is_plain_resnet
        if source.partition('.')[0] == self.name or is_plain_resnet(state):
            return dict(state)
        raise UsageError(
            f'no exact translation of {source!r} to mmseg is known; possible are mmseg backbones '
            f'and ResNets with a plain 7×7 stem from any library')

    def counterpart(self, state: State, source: Mapping[str, Any]) -> dict[str, Any] | None:
        from densessl.transfer.layouts import resnet_shape
        shape = resnet_shape(state)
        if shape is None:
            return super().counterpart(state, source)
        if shape.groups > 1:
            return {'type': 'mmseg.ResNeXt', 'depth': shape.depth, 'groups': shape.groups,
                    'base_width': shape.width_per_group}
        if shape.width_per_group == 64:
            return {'type': 'mmseg.ResNet', 'depth': shape.depth}
        return None   # its ResNet has no wide variant

    def set_data(self, cfg: Config, root: str | None) -> list[str]:
        from densessl_plugins.mmseg.data import set_label_folder, set_root
        return set_label_folder(cfg, root) if 'labels' in cfg else set_root(cfg, root)

    def apply_recipe(self, cfg: Config, recipe: Recipe) -> list[str]:
        from mmseg.registry import MODELS

        from densessl.transfer.recipe import match_input, parameters_of, train_norm, unfreeze
        model, lines = cfg.model, []
        if recipe.applies('stem') and recipe.plain_stem:
            lines += _plain_stem(model.backbone)
        parameters = parameters_of(MODELS.get(model.backbone.type))
        if recipe.applies('frozen'):
            lines += unfreeze(model.backbone, parameters)
        if recipe.applies('norm'):
            lines += train_norm(model, parameters, recipe.distributed)
        if recipe.applies('input'):
            lines += match_input(model.get('data_preprocessor') or cfg.data_preprocessor, recipe,
                                 self.channel_order)
        return lines

    def main_scores(self, metrics: dict[str, Any]) -> dict[str, float]:
        return {name: round(float(metrics[name]), 2) for name in ('mIoU', 'mAcc', 'aAcc')
                if name in metrics}


def _plain_stem(backbone: Any) -> list[str]:
    """Replace the three 3×3 convolutions of ResNetV1c and V1d by the 7×7 one that pretrained
    ResNets have; their weights would have nowhere to go."""
    old = backbone.type
    if old in ('ResNetV1c', 'ResNetV1d'):
        backbone.type = 'ResNet'
    elif not (old == 'ResNet' and backbone.get('deep_stem')):
        return []
    for option in ('deep_stem', 'avg_down'):
        backbone.pop(option, None)
    return [f'backbone.type: {old} → ResNet (plain 7×7 stem, as pretrained)']


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
