"""The contract of a pretraining method, and the hook that drives its ``after_step``."""
from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from mmengine.model import BaseModel
from torch import Tensor, nn

from densessl.bounds import PlainName
from densessl.ema import copy_weights
from densessl.errors import UsageError, path_of, refuse_value

TARGET = 'target_'      # what the names of target networks begin with


@dataclass
class View:
    """One augmented view of a batch, on the training device.

    Attributes:
        image: (B, 3, H, W) or (B, T, 3, H, W) float, normalized.
        mask: (B, H, W) integer label map of the same crop, or None.
        uniforms: (B, U) float in [0, 1): the samples' own random numbers (a function of seed and
            position alone), for whatever a method draws per sample, or None.
        target: labels (B, …) of tasks that have them, what the method's ``make_targets`` cuts, or
            None.
        regions: one more than the batch's largest id in ``mask``, known without asking the
            device, or None.
    """

    image: Tensor
    mask: Tensor | None = None
    uniforms: Tensor | None = None
    target: Tensor | None = None
    regions: int | None = None


@dataclass(frozen=True)
class Compared:
    """What a loss compared in one step, without gradients; see :meth:`Method.show`."""

    queries: Tensor
    keys: Tensor
    ids: tuple[Tensor, Tensor] | None = None
    negatives: Tensor | None = None
    trivial: Callable[[], Tensor | float] | None = None


class Method(BaseModel):
    """A pretraining method: encoders, heads, loss and target update in one readable file.

    A subclass sets :attr:`backbone`, what is kept, and writes :meth:`loss`; one with a target
    network or a queue also writes :meth:`after_step`. Weights that must start as a copy of others
    are copied in ``init_weights`` after ``super().init_weights()``, because the Runner
    initializes weights after construction.
    """

    name: ClassVar[PlainName] = ''
    """What a config writes as ``type``."""

    views: ClassVar[int | None] = 2
    """How many views of a sample :meth:`loss` expects; None if any number does."""

    view_class: ClassVar[type | None] = None
    """What each of the config's ``views`` describes: :class:`~densessl.views.view.AugmentedView`
    if None, else a class of the method's own with the same ``draw`` and ``cut``; see
    :func:`~densessl.views.view.view_class_of`."""

    needs_masks: ClassVar[bool] = False
    """Whether ``View.mask`` must be there."""

    needs_labels: ClassVar[bool] = False
    """Whether ``View.target`` must hold class labels (a folder of images for each class)."""

    batch_negatives: ClassVar[bool] = False
    """Whether other samples of the batch are negatives (then accumulation shrinks their number)."""

    backbone: nn.Module

    watcher: Callable[[Compared], None] | None = None
    """Who is shown what :meth:`loss` compares; nobody if None."""

    def show(self, queries: Tensor, keys: Tensor, *, ids: tuple[Tensor, Tensor] | None = None,
             negatives: Tensor | None = None,
             trivial: Callable[[], Tensor | float] | None = None) -> None:
        """Called in :meth:`loss`: show what it compares to whoever watches the run. A method that
        does not is watched by its backbone alone.

        Args:
            queries, keys: (B, D), or (B, R, D) of regions: those of one image are positives.
            ids: (B, R) of both: then only regions of the same id are.
            negatives: (Q, D) normalized, if others than the keys of other images.
            trivial: gives the value of the loss if nothing is told apart (ln N), if there is one.
        """
        if self.watcher is not None:
            self.watcher(Compared(queries.detach(), keys.detach(), ids, negatives, trivial))

    @classmethod
    def check_run(cls, cfg: Any) -> None:
        """Called with the whole config before a run starts: refuse, by UsageError, what its parts
        mean together and no annotation says."""

    @classmethod
    def make_targets(cls, cfg: Any, images: Any, *, is_builder: bool) -> Any:
        """What :attr:`View.target` is cut from, if not from class labels: an object with ``cut(i,
        view, box, flip, size)``, called in a loader worker for view ``view`` of image ``i`` of
        ``size`` (H, W), which shows ``box`` of it, flipped or not; it returns an array. None: the
        method needs none.

        Args:
            cfg: the whole config. images: the unlabelled images (``ImageList``).
            is_builder: of several processes only this one makes what has to be made; the others
                are called after it.
        """
        return None

    def facts(self) -> dict[str, Any]:
        """Plain facts for the provenance of what is trained, besides those of every run. A link to
        other weights (:mod:`densessl.weights.lineage`) has to be the same when it is resumed; under
        the key K it is to the file that the config's ``model.K`` names, wherever that lies."""
        return {}

    def identity(self) -> dict[str, Any]:
        """What else has to be the same when a run is resumed, by a name for messages, besides the
        config's settings and the hashes of the links in :meth:`facts`."""
        return {}

    def loss(self, views: list[View]) -> dict[str, Tensor]:
        """Return the step's scalars by name: those with ``loss`` in their name are summed and
        differentiated, the others are logged."""
        raise UsageError(f'{path_of(type(self))} must define loss(views)')

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """mmengine's: what is differentiated of what :meth:`loss` returned, and what is logged.

        Raises:
            UsageError: that is something else than a dict of tensors, or has no gradient.
        """
        with suppress(AttributeError, TypeError, RuntimeError):     # not such a dict
            total, values = super().parse_losses(losses)
            if total.requires_grad:
                return total, values
        refuse_value(f'{path_of(type(self))}.loss(views)', losses, 'a dict of floating-point '
                     'tensors by name, one at least with "loss" in its name and with a gradient')

    def after_step(self, step: int, max_steps: int) -> None:
        """Called after optimizer update number ``step`` (0-based) of ``max_steps``, without
        gradients: EMA of a target network and the like."""

    def copy_targets(self) -> None:
        """Make target networks equal to the networks that they follow, buffers included: called
        once weights to start from are in the backbone. Here, each part ``target_NAME`` follows the
        part ``NAME``; a method whose parts are called otherwise overrides this."""
        for name, target in self.named_children():
            if name.startswith(TARGET):
                copy_weights(target, self.get_submodule(name.removeprefix(TARGET)))

    def negatives(self, global_batch: int) -> int | None:
        """How many negatives an anchor meets when ``global_batch`` images make an update, told at
        the start of a run; None if the method has no such number."""
        return None

    def forward(self, views: list[View], mode: str = 'loss') -> Any:
        """``mode='loss'``: :meth:`loss`; ``'tensor'``: the backbone's feature maps of each view,
        of (B·T, …) images where a view has T."""
        if mode == 'loss':
            return self.loss(views)
        if mode == 'tensor':
            return [self.backbone(view.image.flatten(0, -4)) for view in views]
        raise ValueError(f'mode must be "loss" or "tensor", not {mode!r}')
