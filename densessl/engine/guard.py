"""What a library refuses while it builds the parts of a config is the config's fault and gets
one line that names the part. What goes wrong in training is not, and keeps its traceback."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from torch import nn

from densessl.environment import is_of_machine
from densessl.errors import RunFailed, UsageError


@contextmanager
def building(part: str) -> Iterator[None]:
    """Within, an error means that ``part`` of the config cannot be built.

    Raises:
        UsageError: instead of what was raised; the message has its last line.
    """
    try:
        yield
    except (UsageError, RunFailed):
        raise
    except Exception as error:   # libraries raise any kind for a wrong value
        if is_of_machine(error):
            raise
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        last = (text.strip().splitlines() or [''])[-1].partition(' Please check')[0].strip()
        raise UsageError(f'{part} of the config cannot be built: {type(error).__name__}: {last}'
                         ) from error


class GuardedRunner(Runner):
    """mmengine's Runner, whose parts are built within :func:`building`."""

    def build_model(self, model: Any) -> nn.Module:
        with building('model'):
            return super().build_model(model)

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        with building('env_cfg'):
            super().setup_env(env_cfg)

    def build_visualizer(self, visualizer: Any = None) -> Any:
        with building('visualizer'):
            return super().build_visualizer(visualizer)

    def register_default_hooks(self, hooks: Any = None) -> None:
        with building('default_hooks'):
            super().register_default_hooks(hooks)

    def register_custom_hooks(self, hooks: Any) -> None:
        with building('custom_hooks'):
            super().register_custom_hooks(hooks)

    def build_train_loop(self, loop: Any) -> BaseLoop:
        with building('train_dataloader'):   # before the loop, which would: to tell them apart
            if isinstance(self._train_dataloader, dict):
                self._train_dataloader = self.build_dataloader(
                    self._train_dataloader, seed=self.seed,
                    diff_rank_seed=self._randomness_cfg.get('diff_rank_seed', False))
        with building('train_cfg'):
            return super().build_train_loop(loop)

    def build_val_loop(self, loop: Any) -> BaseLoop:
        with building('val_dataloader, val_evaluator or val_cfg'):
            return super().build_val_loop(loop)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        with building('optim_wrapper'):
            return super().build_optim_wrapper(optim_wrapper)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        with building('param_scheduler'):
            return super().build_param_scheduler(scheduler)
