"""Is the backbone still telling images apart? Collapse is noticed within a logging interval."""
from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

COLLAPSED = 0.02   # a random ResNet gives about 0.1–0.3, a trained one more


def spread(features: Tensor) -> Tensor:
    """How far apart the images of a batch are: √(Σ_c Var_b[f_c / ‖f‖]), which is
    √(1 − ‖mean f/‖f‖‖²) unless features are 0.

    Args:
        features: (B, C, h, w) map.

    Returns:
        Scalar in [0, 1]: 0 if all images have the same pooled features, or none.
    """
    f = F.normalize(features.detach().float().mean((2, 3)), dim=1)    # (B, C)
    return (f.square().sum(1).mean() - f.mean(0).square().sum()).clamp(min=0).sqrt()


class CollapseHook(Hook):
    """Logs :func:`spread` of the last feature map as ``spread`` and warns when it is near 0.

    Args:
        interval: iterations between two looks, the logger's interval.
    """

    priority = 'HIGH'

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.look = False
        self.value: Tensor | None = None

    def before_train(self, runner: Runner) -> None:
        method = getattr(runner.model, 'module', runner.model)
        method.backbone.register_forward_hook(self._see)

    def _see(self, module: nn.Module, inputs: Any, maps: Any) -> None:
        if self.look and len(maps[-1]) > 1:   # one image is never apart from itself
            self.value = spread(maps[-1])

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.look = self.every_n_train_iters(runner, self.interval)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        if not self.look or self.value is None:
            return
        all_reduce(self.value, 'mean')
        value = float(self.value)
        runner.message_hub.update_scalar('train/spread', value)
        if value < COLLAPSED:
            runner.logger.warning(
                f'iteration {runner.iter + 1}: the features of a batch are nearly the same '
                f'(spread {value:.3f} of 1): the backbone is collapsing; lower the learning rate '
                f'or lengthen the warm-up')
