"""The transfer target ``mmseg``: builds its backbones and fine-tunes its segmentors."""
from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, ClassVar

from densessl.errors import UsageError
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.mmengine_target import EngineTarget

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mmengine import Config
    from mmengine.registry import Registry

    from densessl.labels.data_report import DataReport
    from densessl.labels.label_folder import LabelLayout
    from densessl.weights.key_layouts import Layout


TIMM = 'TIMMBackbone'       # builds a timm model by its name
LOADING = ('VPD',)          # made of files of another model, which its arguments name


class MMSegmentation(EngineTarget):
    name = 'mmseg'
    config_packages: ClassVar[dict[str, str]] = {'mmseg': 'onedl-mmsegmentation'}
    config_imports: ClassVar[tuple[str, ...]] = ('densessl_plugins.mmseg.in_configs',)

    def prepare(self) -> None:
        from densessl.finetune import image_loading
        from densessl.transfer import library_backbone
        from densessl.transfer.mmcv_ops import install
        install()
        with redirect_stdout(io.StringIO()):   # it prints which optional parts it does not find
            import mmseg.datasets
            import mmseg.engine
            import mmseg.evaluation
            import mmseg.models
            import mmseg.visualization  # noqa: F401
        from densessl_plugins.mmseg import data, devkits
        data.register()
        devkits.register()
        image_loading.register()
        library_backbone.register()

    def models(self) -> Registry:
        from mmseg.registry import MODELS
        return MODELS

    def backbone_names(self) -> list[str]:
        self.prepare()
        from mmseg.models import backbones
        return [name for name in backbones.__all__
                if name in self.models().module_dict and name not in LOADING]

    def backbone_arguments(self, name: str, arguments: Mapping[str, Any]
                           ) -> Mapping[str, Collection[str] | None]:
        wrapper_arguments = super().backbone_arguments(name, arguments)
        if name != TIMM:
            return wrapper_arguments
        if arguments.get('pretrained') is not False:    # its own default is to download
            raise UsageError(f'{self.name}.{TIMM} out of a file of weights: its pretrained must '
                             f'be False')
        timm = TRANSFER_TARGETS.get('timm')()
        models, model = timm.backbone_names(), arguments.get('model_name')
        model_arguments = timm.backbone_arguments(model, arguments) if model in models else {}
        # It looks norm_layer up in the registry, where a name may be a module
        return {**dict.fromkeys(model_arguments.keys() - {'norm_layer'}), **wrapper_arguments,
                'model_name': models}

    def layer_types(self) -> list[str]:
        # Within another backbone nothing would ask whether it loads.
        return [name for name in super().layer_types() if name not in (TIMM, *LOADING)]

    def layouts(self) -> list[Layout]:
        from densessl_plugins.mmseg.layouts import LAYOUTS
        return [*super().layouts(), *LAYOUTS]

    def label_layouts(self) -> list[LabelLayout]:
        from densessl_plugins.mmseg.pixel_layouts import LAYOUTS
        return LAYOUTS

    def set_data(self, cfg: Config, root: str | None) -> list[str]:
        from densessl.finetune.labelled_subset import reads, set_root
        from densessl_plugins.mmseg import data, devkits
        _check_stages(cfg.model)
        if cfg.get('labels'):
            return data.set_label_folder(cfg, root)
        if reads(cfg, devkits.VOC_TYPES):
            return devkits.set_voc(cfg, root)
        if reads(cfg, devkits.CITYSCAPES_TYPES):
            return devkits.set_cityscapes(cfg, root)
        return set_root(cfg, root)

    def inspect_data(self, cfg: Config) -> list[DataReport]:
        from densessl_plugins.mmseg.inspection import inspect_data
        return inspect_data(cfg)

    def main_scores(self, metrics: dict[str, Any]) -> dict[str, float]:
        return {name: round(float(metrics[name]), 2) for name in ('mIoU', 'mAcc', 'aAcc')
                if name in metrics}


def _check_stages(model: Any) -> None:
    """Refuse a head that reads a stage which the backbone does not give."""
    count = len((model.get('backbone') or {}).get('out_indices') or range(4))
    for name in ('decode_head', 'auxiliary_head'):
        heads = model.get(name) or []
        for head in [heads] if isinstance(heads, dict) else heads:
            index = head.get('in_index', -1)
            for one in index if isinstance(index, (list, tuple)) else [index]:
                if not isinstance(one, int) or not -count <= one < count:
                    raise UsageError(f'model.{name}.in_index of the config: {index!r}, but the '
                                     f'backbone gives {count} feature maps: 0 … {count - 1}')
