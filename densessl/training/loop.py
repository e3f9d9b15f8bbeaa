"""The training loop: mmengine's, without the work that it needlessly repeats in every iteration."""
from __future__ import annotations

import time
from typing import Any

from mmengine.runner import IterBasedTrainLoop

from densessl.training.prefetch import DeviceBatches


class PretrainLoop(IterBasedTrainLoop):
    """Iterations over an endless sampler, with the time that was spent waiting for data.

    mmengine's puts the model into training mode before every iteration, which walks through all
    modules (0.7 ms for two ResNet-50s); here that happens only when a hook has changed the mode of
    the model or of its backbone.

    Attributes:
        waited: seconds spent waiting for batches so far.
        aside: seconds spent on other things than training so far, such as a probe.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.waited = self.aside = 0.0

    def run(self) -> Any:
        """Train; return the model."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self.dataloader_iterator.skip_iter(self._iter)   # the sampler leaps: no data is read
        model = self.runner.model
        method = getattr(model, 'module', model)
        model.train()
        device = next(model.parameters()).device
        fetch = (DeviceBatches(self._fetch, device, self._max_iters - self._iter).next
                 if device.type == 'cuda' else self._fetch)
        while self._iter < self._max_iters and not self.stop_training:
            if not (model.training and method.backbone.training):
                model.train()
            self.run_iter(fetch())
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return model

    def _fetch(self) -> dict[str, Any]:
        """The next batch on the host, with the time that it is waited for."""
        start = time.perf_counter()
        batch = next(self.dataloader_iterator)
        self.waited += time.perf_counter() - start
        return batch
