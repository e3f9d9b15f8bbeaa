"""The transfer target ``mmdet``: builds its backbones and fine-tunes its detectors."""
from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from densessl.transfer.mmengine_target import EngineTarget

if TYPE_CHECKING:
    from mmengine import Config
    from mmengine.registry import Registry

    from densessl.labels.data_report import DataReport
    from densessl.transfer.foreign_checkpoints import CheckpointLayout
    from densessl.transfer.prediction import Prediction
    from densessl.weights.key_layouts import Layout


SCORES = {   # by the name people use; COCO's and VOC's in the order of their papers' tables
    'box AP': 'coco/bbox_mAP', 'mask AP': 'coco/segm_mAP',
    'box AP50': 'coco/bbox_mAP_50', 'mask AP50': 'coco/segm_mAP_50',
    'AP50': 'pascal_voc/AP50', 'AP': 'pascal_voc/mAP', 'AP75': 'pascal_voc/AP75',
    'PQ': 'coco_panoptic/PQ', 'PQ things': 'coco_panoptic/PQ_th',
    'PQ stuff': 'coco_panoptic/PQ_st', 'SQ': 'coco_panoptic/SQ', 'RQ': 'coco_panoptic/RQ',
}
SHARED_HEAD = 'roi_head.shared_head'
IN_PERCENT = 'coco_panoptic/'   # the others are shares of 1


class MMDetection(EngineTarget):
    name = 'mmdet'
    config_packages: ClassVar[dict[str, str]] = {'mmdet': 'onedl-mmdetection'}
    config_imports: ClassVar[tuple[str, ...]] = ('densessl_plugins.mmdet.in_configs',)

    def prepare(self) -> None:
        from densessl.finetune import image_loading
        from densessl.transfer import library_backbone
        from densessl.transfer.mmcv_ops import install
        from densessl_plugins.mmdet import panoptic_quality
        install()
        # It says which optional parts it does not find.
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            panoptic_quality.install()
            import mmdet.datasets
            import mmdet.engine
            import mmdet.evaluation
            import mmdet.models
            import mmdet.visualization  # noqa: F401
        from densessl_plugins.mmdet import c4
        from densessl_plugins.mmdet.labels import coco, panoptic, voc
        for module in (c4, coco, panoptic, voc, image_loading):
            module.register()
        library_backbone.register()

    def models(self) -> Registry:
        from mmdet.registry import MODELS
        return MODELS

    def backbone_names(self) -> list[str]:
        self.prepare()
        from mmdet.models import backbones
        return [name for name in backbones.__all__ if name in self.models().module_dict]

    def layouts(self) -> list[Layout]:
        from densessl_plugins.mmseg.layouts import convnext_layout
        # A detector's config can take its backbone from MMSegmentation by this scoped name.
        return [*super().layouts(), convnext_layout('mmdet.mmseg.TIMMBackbone')]

    def checkpoints(self) -> list[CheckpointLayout]:
        from densessl_plugins.mmdet.checkpoints import CHECKPOINTS
        return CHECKPOINTS

    def set_data(self, cfg: Config, root: str | None) -> list[str]:
        from densessl.finetune.labelled_subset import reads
        from densessl_plugins.mmdet import data
        from densessl_plugins.mmdet.labels import panoptic, voc
        if reads(cfg, panoptic.TYPES, one=True):
            return panoptic.set_panoptic(cfg, root)
        if reads(cfg, voc.TYPES) and voc.is_devkit(root):
            return voc.set_voc(cfg, root)
        if reads(cfg, data.COCO_TYPES, one=True) or reads(cfg, voc.TYPES):
            return data.set_objects(cfg, root)
        return data.set_other(cfg, root)

    def inspect_data(self, cfg: Config) -> list[DataReport]:
        from mmengine.registry import DefaultScope

        from densessl_plugins.mmdet.labels.data_reports import inspect_objects
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            return list(inspect_objects(cfg))

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
        return modules if head is None else {**modules, SHARED_HEAD: _layers(head)}

    def build_receivers(self, model: Mapping[str, Any]) -> dict[str, nn.Module]:
        modules, shared = super().build_receivers(model), _shared_head(model)
        if shared is None:
            return modules
        plain = {key: value for key, value in shared.items() if key != 'init_cfg'}
        head = self.models().build({'_scope_': self.name, **plain})
        return {**modules, SHARED_HEAD: _layers(head)}

    def features(self, model: nn.Module) -> nn.Module:
        """The backbone and, in a C4 detector, its layer4 on the whole image instead of regions."""
        backbone, *rest = self.backbone_modules(model).values()
        return backbone if not rest else Chained(backbone, *rest[0].values())

    def fit_stem(self, model: Any) -> list[str]:
        lines = super().fit_stem(model)
        for name, part in _parts(model).items():
            if part.get('style') == 'caffe':
                part.style = 'pytorch'
                lines.append(f'{name}.style: caffe → pytorch (strides in the 3×3 convolution, as '
                             f'pretrained)')
        return lines

    def unfreeze(self, model: Any) -> list[str]:
        lines, shared = super().unfreeze(model), _shared_head(model)
        if shared is not None and shared.get('norm_eval', True):
            shared.norm_eval = False
            lines.append(f'{SHARED_HEAD}.norm_eval: True → False (BN statistics follow the '
                         f'new images)')
        return lines

    def prediction(self, sample: Any) -> Prediction:
        from densessl_plugins.mmdet.labels.panoptic import panoptic_prediction
        if 'pred_panoptic_seg' in sample:
            return panoptic_prediction(sample)
        return super().prediction(sample)

    def is_score(self, name: str, value: Any) -> bool:
        """COCO's own code says −1 where there was nothing to score."""
        return super().is_score(name, value) and float(value) >= 0

    def main_scores(self, metrics: dict[str, Any]) -> dict[str, float]:
        scores = {name: round(float(metrics[key]) * (1 if key.startswith(IN_PERCENT) else 100), 2)
                  for name, key in SCORES.items() if key in metrics}
        if 'AP75' not in scores:
            scores.pop('AP', None)   # the mean over the one threshold of AP50
        return scores


class Chained(nn.Module):
    """A backbone with further stages, each applied to the map before it."""

    def __init__(self, backbone: nn.Module, *stages: nn.Module) -> None:
        super().__init__()
        self.backbone, self.stages = backbone, nn.ModuleList(stages)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = tuple(self.backbone(image))
        for stage in self.stages:
            maps = (*maps, stage(maps[-1]))
        return maps


def _layers(head: nn.Module) -> nn.ModuleDict:
    """What receives weights in a C4 detector's shared head: its stage, not a BN after it."""
    return nn.ModuleDict({name: part for name, part in head.named_children()
                          if name.startswith('layer')})


def _parts(model: Any) -> dict[str, Any]:
    """The parts of a detector's config that hold pretrained layers."""
    shared = _shared_head(model)
    return {'backbone': model.backbone} | ({SHARED_HEAD: shared} if shared else {})


def _shared_head(model: Any) -> Any:
    """The part of a C4 detector's config that holds layer4, or None."""
    head = model.get('roi_head')
    return head.get('shared_head') if isinstance(head, dict) else None
