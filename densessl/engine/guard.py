"""What a library refuses while it builds the parts of a config is the config's fault and gets
one line that names the part. What goes wrong in training is not, and keeps its traceback."""
from __future__ import annotations

from typing import Any

from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop

from densessl.environment import building


class GuardedRunner(Runner):
    """mmengine's Runner, whose parts are built within :func:`building`."""

    build_model = building('model')(Runner.build_model)
    setup_env = building('env_cfg')(Runner.setup_env)
    build_visualizer = building('visualizer')(Runner.build_visualizer)
    register_default_hooks = building('default_hooks')(Runner.register_default_hooks)
    register_custom_hooks = building('custom_hooks')(Runner.register_custom_hooks)
    build_val_loop = building('val_dataloader, val_evaluator or val_cfg')(Runner.build_val_loop)
    build_optim_wrapper = building('optim_wrapper')(Runner.build_optim_wrapper)
    build_param_scheduler = building('param_scheduler')(Runner.build_param_scheduler)

    def build_train_loop(self, loop: Any) -> BaseLoop:
        with building('train_dataloader'):   # before the loop, which would: to tell them apart
            if isinstance(self._train_dataloader, dict):
                self._train_dataloader = self.build_dataloader(
                    self._train_dataloader, seed=self.seed,
                    diff_rank_seed=self._randomness_cfg.get('diff_rank_seed', False))
        with building('train_cfg'):
            return super().build_train_loop(loop)
