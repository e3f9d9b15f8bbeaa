"""A transfer target whose library is built on mmengine: backbones in a registry of models, configs
that mmengine's Runner trains."""
from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.model.averaged_model import BaseAveragedModel
from mmengine.registry import DefaultScope, Registry
from torch import Tensor, nn

from densessl.backbones import finest_first
from densessl.bounds import parameters_of
from densessl.errors import UsageError, did_you_mean, refuse_value, shown
from densessl.overrides import class_named
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer import library_backbone
from densessl.transfer.foreign_checkpoints import CheckpointLayout
from densessl.transfer.library_backbone import is_library_backbone
from densessl.transfer.mmengine_layouts import engine_layouts
from densessl.transfer.prediction import Prediction
from densessl.transfer.recipe import (
    Recipe,
    freeze_stages,
    match_input,
    train_norm,
    unfreeze,
)
from densessl.transfer.target import TransferTarget
from densessl.transfer.translate import translate
from densessl.weights.group_norm import group_norm
from densessl.weights.key_layouts import Layout
from densessl.weights.keymap import State

# What whole models hold beside ``backbone``, and checkpoints of a run beside the model.
_BESIDE_BACKBONE = (
    r'(?:neck|\w*head|encoder|decoder|\w*(?:embedding|embed|queries|generator)|patterns|query_map|'
    r'(?:memory_trans|pos_trans|reference_points)\w*|language_model|text_feat_map|'
    r'data_preprocessor)\b|(?:ema_state_dict|optimizer|message_hub)\.')


DILATIONS = {8: (1, 1, 2, 4), 16: (1, 1, 1, 2), 32: (1, 1, 1, 1)}   # by the output stride
_LAYERS = re.compile(r'\.(layers|utils|backbones)\.')     # modules of such libraries


class EngineTarget(TransferTarget):
    """What such libraries have in common. A subclass gives ``name``, ``prepare``, ``models`` and
    ``backbone_names``, and ``set_data``."""

    finetunes: ClassVar[bool] = True

    def models(self) -> Registry:
        """The library's registry of models (called after ``prepare``)."""
        raise NotImplementedError

    def backbone_names(self) -> list[str]:
        """The library's own backbones, by the names that it registered."""
        raise NotImplementedError

    def backbone_arguments(self, name: str, arguments: Mapping[str, Any]
                           ) -> Mapping[str, Collection[str] | None]:
        self.prepare()
        parameters = parameters_of(self.models().module_dict[name])
        own = {'output_stride'} if _is_strided(parameters) else set()
        return dict.fromkeys({*parameters, *own} - {'**', 'self'})

    def layer_types(self) -> list[str]:
        """The layers that are registered for all libraries, the library's own, and its backbones,
        since some contain another."""
        whole = (BaseModel, BaseDataPreprocessor, BaseAveragedModel)
        models = self.models()
        return [*self.backbone_names(), *(
            name for registry in (models.root, models) for name, cls in registry.module_dict.items()
            if isinstance(cls, type) and issubclass(cls, nn.Module) and not issubclass(cls, whole)
            and (registry is not models or _LAYERS.search(cls.__module__)))]

    def build_backbone(self, name: str, **kwargs: Any) -> nn.Module:
        self.prepare()
        cls = self.models().get(name)
        if cls is None:
            names = self.backbone_names()
            close = ', '.join(get_close_matches(name, names, n=5, cutoff=0.4))
            raise UsageError(f'unknown {self.name} backbone {name!r}; close to it: '
                             f'{close or "nothing"}; all of them: {", ".join(names)}')
        if 'output_stride' in kwargs:
            kwargs = with_strides(f'{self.name}.{name}', parameters_of(cls), **kwargs)
        # Downstream defaults are for weights that are there already; pretraining makes them.
        trainable = {key: value for key, value in (('frozen_stages', -1), ('norm_eval', False))
                     if key in parameters_of(cls)}
        try:
            backbone = self.models().build(
                {'type': name, '_scope_': self.name, **trainable, **kwargs})
        except (TypeError, ValueError, KeyError, AssertionError) as error:
            reason = error.args[0] if error.args else type(error).__name__
            raise UsageError(f'{self.name}.{name} cannot be built: {reason}') from error
        with _quiet_log():
            backbone.init_weights()
        backbone.is_init = True   # mmengine initializes what is not; some overrides forget to say
        backbone.register_forward_hook(_finest_first)
        return backbone

    def own_files(self, name: str, backbone: nn.Module, **kwargs: Any) -> list[CheckpointLayout]:
        return [CheckpointLayout(self.name, 'a backbone saved alone'),
                CheckpointLayout(self.name, 'a whole model', prefix=r'backbone\.',
                                 others=_BESIDE_BACKBONE)]

    def layouts(self) -> list[Layout]:
        return engine_layouts(self.name)

    def translate_for(self, model: Mapping[str, Any], state: State, source: str) -> State:
        backbone = model.get('backbone')
        if is_library_backbone(backbone):
            library = library_backbone.network_of(backbone).partition('.')[0]
            translated = translate(TRANSFER_TARGETS.get(library)(), state, source)
            return {library_backbone.PREFIX + key: value for key, value in translated.items()}
        try:
            return translate(self, state, source)
        except UsageError as error:
            raise UsageError(
                f"{error}; or take the network itself into the model: backbone=dict(_delete_=True, "
                f"type='LibraryBackbone', network={source!r})") from error

    def added_modules(self, backbone: nn.Module, state: State) -> list[str]:
        """The LayerNorms that these libraries' SwinTransformer puts behind its first three maps;
        the published network has but the last, ``norm3``."""
        if not any(key.endswith('.attn.w_msa.relative_position_bias_table') for key in state):
            return []
        return [name for name in ('norm0', 'norm1', 'norm2')
                if hasattr(backbone, name) and f'{name}.weight' not in state]

    def apply_recipe(self, cfg: Config, recipe: Recipe) -> list[str]:
        model, lines = cfg.model, []
        if is_library_backbone(model.get('backbone')):
            library_backbone.check_channels(model)
        if 'backbone' not in model:
            raise UsageError(f'the model {model.get("type")} of this config has no backbone of its '
                             f'own; choose a config whose model has one')
        if 'stem' not in recipe.keep and recipe.plain_stem:
            lines += recipe.priced('stem', self.fit_stem(model))
        if 'frozen' not in recipe.keep:
            lines += recipe.priced('frozen', self.unfreeze(model))
        if recipe.freeze is not None:
            lines += self.freeze(model.backbone, recipe.freeze)
        if 'norm' not in recipe.keep:
            parameters = self._parameters(model.backbone)
            changes = train_norm(model, parameters, recipe.distributed)
            unfrozen = any('requires_grad' in line for line in changes)   # only that has a price
            lines += recipe.priced('norm', changes) if unfrozen else changes
            if recipe.groups and 'norm_cfg' in parameters:
                model.backbone.norm_cfg = group_norm(recipe.groups)
                lines.append(f'backbone.norm_cfg: GN of {recipe.groups} groups (as pretrained)')
        if 'input' not in recipe.keep:
            preprocessor = model.get('data_preprocessor') or cfg.data_preprocessor
            lines += recipe.priced('input', match_input(preprocessor, recipe, self.channel_order))
        return lines + recipe.kept()

    def fit_stem(self, model: Any) -> list[str]:
        """Replace the three 3×3 convolutions of ResNetV1c and V1d by the 7×7 one that pretrained
        ResNets have; their weights would have nowhere to go."""
        backbone, old = model.backbone, model.backbone.type
        if old in ('ResNetV1c', 'ResNetV1d'):
            backbone.type = 'ResNet'
        elif not (old == 'ResNet' and backbone.get('deep_stem')):
            return []
        for option in ('deep_stem', 'avg_down'):
            backbone.pop(option, None)
        return [f'backbone.type: {old} → ResNet (plain 7×7 stem, as pretrained)']

    def unfreeze(self, model: Any) -> list[str]:
        """Freeze nothing that receives pretrained weights."""
        return unfreeze(model.backbone, self._parameters(model.backbone))

    def freeze(self, backbone: Any, stages: int) -> list[str]:
        """Freeze the stem and the first stages of a backbone that the library can freeze."""
        parameters = self._parameters(backbone)
        if 'frozen_stages' not in parameters:
            able = [name for name in self.backbone_names()
                    if 'frozen_stages' in parameters_of(self.models().get(name))]
            raise UsageError(f'--freeze: {self.name} cannot freeze stages of a {backbone.type}; '
                             f'it can those of {", ".join(able)}')
        return freeze_stages(backbone, parameters, stages)

    def _parameters(self, backbone: Any) -> dict[str, Any]:
        """The arguments of what a config names as its backbone."""
        cls = class_named(self.models(), backbone.type)
        if cls is None:
            known = self.backbone_names()
            refuse_value('model.backbone.type', backbone.type, f'a backbone of {self.name}',
                         f'{did_you_mean(backbone.type, known)}; it has {", ".join(sorted(known))}')
        return parameters_of(cls)

    def predictor(self, cfg: Config, state: State) -> Callable[[np.ndarray], Prediction]:
        steps = [step for step in cfg.test_dataloader.dataset.pipeline
                 if not step.type.startswith('Load')]      # neither the file nor annotations
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model, pipeline = self.models().build(cfg.model), Compose(steps)
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise UsageError(f'the weights do not fit the {cfg.model.type} of the config: '
                             f'{str(error).splitlines()[1].strip()}') from error
        model.to(get_device()).eval()

        def predict(image: np.ndarray) -> Prediction:
            ordered = image[..., ::-1] if self.channel_order == 'BGR' else image
            size = image.shape[:2]
            with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.no_grad():
                data = pipeline({'img': np.ascontiguousarray(ordered), 'img_path': '', 'img_id': 0,
                                 'img_shape': size, 'ori_shape': size})
                return self.prediction(model.test_step(pseudo_collate([data]))[0])
        return predict

    def prediction(self, sample: Any) -> Prediction:
        """What a data element of the library's models says about one image."""
        return Prediction.of(sample)


def with_strides(name: str, parameters: Mapping[str, Any], *, output_stride: Any,
                 **arguments: Any) -> dict[str, Any]:
    """The arguments of a ResNet whose ``output_stride`` is given: its last stages take stride 1
    and as much dilation, as these libraries' own configs write it.

    Args:
        name: the backbone's ``'TARGET.name'``, for messages.
        parameters: arguments of its class and their defaults.
        output_stride: how many input pixels a cell of the last map spans.
        arguments: those that are given.

    Raises:
        UsageError: no such network, another stride than 8, 16 and 32, or strides given twice.
    """
    if not _is_strided(parameters):
        raise UsageError(f'{name} takes no output_stride: it is for ResNets of four stages')
    if type(output_stride) is not int or output_stride not in DILATIONS:
        raise UsageError(f'{name}: output_stride {shown(output_stride)}; choices: '
                         f'{", ".join(map(str, DILATIONS))}')
    if twice := [key for key in ('strides', 'dilations') if key in arguments]:
        raise UsageError(f'{name}: give output_stride or {" and ".join(twice)}, not both')
    dilations = DILATIONS[output_stride]
    strides = tuple(1 if dilation > 1 else stride for stride, dilation
                    in zip(parameters['strides'], dilations, strict=True))
    return {**arguments, 'strides': strides, 'dilations': dilations}


def _is_strided(parameters: Mapping[str, Any]) -> bool:
    """Whether a backbone's class has four stages whose strides and dilations are arguments."""
    return all(type(parameters.get(key)) is tuple and len(parameters[key]) == 4
               for key in ('strides', 'dilations'))


def _finest_first(module: nn.Module, args: Any, maps: Any) -> tuple[Tensor, ...]:
    return finest_first(maps)


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Without mmengine's report on the initialization of every single parameter."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
