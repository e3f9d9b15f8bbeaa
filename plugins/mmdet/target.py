"""The transfer target ``mmdet``: builds its backbones and fine-tunes its detectors."""
from __future__ import annotations

import io
import warnings
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from densessl.transfer.engine_target import EngineTarget

if TYPE_CHECKING:
    from mmengine import Config
    from mmengine.registry import Registry

    from densessl.transfer.checkpoints import CheckpointLayout
    from densessl.transfer.layouts import Layout
    from densessl.transfer.recipe import Recipe

SCORES = {   # by the name people use; COCO's in the order of its table, then VOC's
    'box AP': 'coco/bbox_mAP', 'mask AP': 'coco/segm_mAP',
    'box AP50': 'coco/bbox_mAP_50', 'mask AP50': 'coco/segm_mAP_50',
    'AP50': 'pascal_voc/AP50',
}


class MMDetection(EngineTarget):
    name = 'mmdet'
    config_packages: ClassVar[dict[str, str]] = {'mmdet': 'onedl-mmdetection'}

    def prepare(self) -> None:
        from densessl.transfer.mmcv_ops import install
        install()
        # It says which optional parts it does not find.
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            import mmdet.datasets
            import mmdet.engine
            import mmdet.evaluation
            import mmdet.models
            import mmdet.visualization  # noqa: F401
        from densessl_plugins.mmdet.coco import register
        register()

    def models(self) -> Registry:
        from mmdet.registry import MODELS
        return MODELS

    def backbone_names(self) -> list[str]:
        from mmdet.models import backbones
        return list(backbones.__all__)

    def layouts(self) -> list[Layout]:
        from densessl_plugins.mmseg.layouts import convnext_layout
        # A detector's config can take its backbone from MMSegmentation by this scoped name.
        return [*super().layouts(), convnext_layout('mmdet.mmseg.TIMMBackbone')]

    def checkpoints(self) -> list[CheckpointLayout]:
        from densessl_plugins.mmdet.checkpoints import CHECKPOINTS
        return CHECKPOINTS

    def set_data(self, cfg: Config, root: str | None) -> list[str]:
        from densessl_plugins.mmdet.data import is_coco, set_coco, set_other
        return set_coco(cfg, root) if is_coco(cfg) else set_other(cfg, root)

    def load_weights(self, cfg: Config, path: str) -> None:
        super().load_weights(cfg, path)
        shared = _shared_head(cfg.model)
        if shared is not None:
            shared.init_cfg = {'type': 'Pretrained', 'checkpoint': path}

    def backbone_modules(self, model: nn.Module) -> dict[str, nn.Module]:
        """The backbone; in a C4 detector, whose backbone ends with layer3, also the layer4 that
        its RoI head applies to every region."""
        modules = super().backbone_modules(model)
        head = getattr(getattr(model, 'roi_head', None), 'shared_head', None)
        return modules if head is None else {**modules, 'roi_head.shared_head': head}

    def apply_recipe(self, cfg: Config, recipe: Recipe) -> list[str]:
        lines = super().apply_recipe(cfg, recipe)
        parts = {'backbone': cfg.model.backbone, 'roi_head.shared_head': _shared_head(cfg.model)}
        for name, part in parts.items():
            if part is None:
                continue
            if recipe.applies('stem') and recipe.plain_stem and part.get('style') == 'caffe':
                part.style = 'pytorch'
                lines.append(f'{name}.style: caffe → pytorch (strides in the 3×3 convolution, as '
                             f'pretrained)')
            if recipe.applies('frozen') and name != 'backbone' and part.get('norm_eval', True):
                part.norm_eval = False
                lines.append(f'{name}.norm_eval: True → False (BN statistics follow the new '
                             f'images)')
        return lines

    def main_scores(self, metrics: dict[str, Any]) -> dict[str, float]:
        return {name: round(100 * float(metrics[key]), 2) for name, key in SCORES.items()
                if key in metrics}


def _shared_head(model: Any) -> Any:
    """The part of a C4 detector's config that holds layer4, or None."""
    head = model.get('roi_head')
    return head.get('shared_head') if isinstance(head, dict) else None
