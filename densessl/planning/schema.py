"""What a pretraining config may say: its keys with the values that each allows."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from densessl.bounds import (
    NOT_EMPTY,
    Momentum,
    NotNegative,
    Range,
    Seed,
    Share,
    TypeName,
    check_section,
    whole,
)
from densessl.devices.backends import TF32
from densessl.errors import check_keys
from densessl.planning.plan import MOST_EPOCHS
from densessl.planning.start import CONFIG_KEYS as START

DEFAULT_CONSTRUCTOR = 'DefaultOptimWrapperConstructor'
Positive = Annotated[float, Range(above=0)]
Images = whole(1, 2 ** 20)
Steps = whole(1, 2 ** 31 - 1)
Epochs = whole(1, MOST_EPOCHS)
Workers = whole(0, 2 ** 10)

REQUIRED: dict[str, Any] = {
    'model': dict, 'normalization': dict, 'schedule': dict, 'optim_wrapper': dict,
    'train_dataloader': dict, 'checkpoint': dict, 'views': Sequence[dict], 'epochs': Epochs,
    'global_batch': Images, 'log_interval': Steps, 'seed': Seed,
    'uniforms': whole(1, 2 ** 12)}
OPTIONAL: dict[str, Any] = {
    **START, 'continuing': dict | None, 'probe': str | dict | None,
    'data': str | None, 'value_range': Any, 'bands': Any, 'max_unreadable': Share,
    'masks': dict | None, 'recipe': Mapping[Epochs, dict] | None,
    'process_timeout': Annotated[float, Range(above=0, most=10 ** 5)],
    'sync_bn': bool, 'find_unused_parameters': bool, 'channels_last': bool,
    'tf32': TF32, 'cudnn_benchmark': bool, 'deterministic': bool,
    'gradient_checkpointing': bool, 'compile': bool | dict | None,
    'pictures': Annotated[int, Range(0, 16)],
    'custom_hooks': Sequence[dict], 'custom_imports': dict | None,
    'visualizer': dict | None, 'env_cfg': dict,
    'work_dir': Annotated[str, NOT_EMPTY] | None}
SECTIONS: dict[str, dict[str, Any]] = {
    'train_dataloader': {'batch_size': Images | None, 'num_workers': Workers},
    'checkpoint': {'every_epochs': Positive, 'keep': Steps, 'keep_best': bool},
    'schedule': {'type': TypeName, 'base_lr': Annotated[float, Range(0, 10 ** 6)],
                 'reference_batch': whole(1, 2 ** 31 - 1),
                 'warmup_epochs': NotNegative, 'by_epoch': bool,
                 'milestones': Sequence[Share], 'gamma': Positive}}
NEEDED = {'train_dataloader': ('num_workers',), 'checkpoint': ('every_epochs', 'keep'),
          'schedule': ('type', 'base_lr', 'reference_batch', 'warmup_epochs')}
# of the optimizers and their wrapper, which are libraries' and say no bounds of their own
OPTIMIZER: dict[str, Any] = {
    'momentum': Momentum, 'dampening': Share, 'nesterov': bool, 'weight_decay': NotNegative,
    'betas': tuple[Momentum, Momentum], 'eps': Annotated[float, Range(above=0, most=1)],
    'alpha': Share, 'lr_decay': NotNegative, 'amsgrad': bool, 'maximize': bool, 'centered': bool}
WRAPPER: dict[str, Any] = {
    'type': TypeName, 'constructor': TypeName, 'optimizer': dict, 'clip_grad': dict | None,
    'paramwise_cfg': dict | None, 'accumulative_counts': whole(1, 2 ** 16)}
CLIPPING: dict[str, Any] = {
    'type': Literal['norm', 'value'], 'max_norm': Positive, 'clip_value': Positive,
    'norm_type': Positive | Literal['inf'], 'error_if_nonfinite': bool, 'foreach': bool | None}
MULTIPLIERS: dict[str, Any] = {     # of mmengine's default constructor
    'lr_mult': NotNegative, 'decay_mult': NotNegative, 'bias_lr_mult': NotNegative,
    'bias_decay_mult': NotNegative, 'norm_decay_mult': NotNegative,
    'flat_decay_mult': NotNegative, 'dwconv_decay_mult': NotNegative,
    'dcn_offset_lr_mult': NotNegative, 'bypass_duplicate': bool,
    'custom_keys': Mapping[str, dict]}


def check_wrapper(wrapper: Mapping[str, Any]) -> None:
    """Check what an ``optim_wrapper`` section says, without the arguments that only its classes
    know.

    Raises:
        UsageError: an unknown key, or a value that is not allowed.
    """
    check_section('optim_wrapper.', wrapper, WRAPPER)
    check_section('optim_wrapper.optimizer.', wrapper['optimizer'], OPTIMIZER)
    if wrapper.get('clip_grad') is not None:
        check_keys('optim_wrapper.clip_grad', wrapper['clip_grad'], CLIPPING)
        check_section('optim_wrapper.clip_grad.', wrapper['clip_grad'], CLIPPING)
    if wrapper.get('paramwise_cfg') is not None:
        check_section('optim_wrapper.paramwise_cfg.', wrapper['paramwise_cfg'], MULTIPLIERS)
        if wrapper.get('constructor', DEFAULT_CONSTRUCTOR) == DEFAULT_CONSTRUCTOR:
            check_keys('optim_wrapper.paramwise_cfg', wrapper['paramwise_cfg'], MULTIPLIERS)
