"""A student learns, cell by cell, what a frozen teacher computes of the same view."""
from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densessl.backbones import build_backbone, feature_stage
from densessl.bounds import NotNegative, Range
from densessl.errors import UsageError
from densessl.heads import cell_counts
from densessl.images.image_list import ImageList
from densessl.method import Method, View
from densessl.precision import full_precision
from densessl_plugins.distill.cache import CachedFeatures
from densessl_plugins.distill.teacher import Teacher

Side = Annotated[int, Range(1, 2 ** 12)]
COSINE, L1 = 0.9, 0.1     # weights of the two terms (Theia's code)


class Distill(Method):
    """Distillation of dense features.

    Both networks see the same view, photometry included, so that their cells show the same; the
    coarser map is resized to the finer grid.

    Args:
        backbone: of the student, ``dict(type='TARGET.name', …)``.
        teacher: what ``--init`` takes: a file, or ``'TARGET.name'`` for a library's own weights.
        teacher_as: ``'TARGET.name'`` that somebody else's file is of, if its shapes do not tell.
        teacher_stage: which of the teacher's feature maps, −1 the last; None: the last that is as
            fine as the student's, or the finest it has. On road scenes a ResNet-18 of stride 16
            learnt 47.0 mIoU from the map of stride 16 and 33.7 from the one of stride 32.
        teacher_size: side in pixels to which views are resized for it; as they are if None.
        stage: which of the student's feature maps.
        cached: short side in pixels at which the teacher sees each image once, whole and
            unaugmented: its features are kept on the disk, and a view's are cut out of them. None:
            it sees each view.
        cosine, l1: weights of the two terms.
    """

    name = 'distill'
    views = None

    def __init__(self, backbone: dict[str, Any], teacher: str | None = None,
                 teacher_as: str | None = None, teacher_stage: int | None = None,
                 teacher_size: Side | None = None, stage: int = -1, cached: Side | None = None,
                 cosine: NotNegative = COSINE, l1: NotNegative = L1) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone)
        student = feature_stage(self.backbone, stage)
        self.teacher = Teacher(teacher, teacher_as, teacher_stage, teacher_size, student.stride)
        self.projection = nn.Conv2d(student.channels, self.teacher.channels, 1)
        self.standardize = nn.BatchNorm2d(self.teacher.channels, affine=False)
        self.stage, self.cached, self.cosine, self.l1 = stage, cached, cosine, l1

    @classmethod
    def check_run(cls, cfg: Any) -> None:
        """Refuse views that the teacher does not take, before anything starts."""
        model = cfg.model
        if not model.get('cosine', COSINE) and not model.get('l1', L1):
            raise UsageError('model.cosine and model.l1 are both 0, so that nothing is learned; '
                             'give one of them a weight')
        teacher = _teacher_of(model)
        if model.get('cached') is not None:
            if model.get('teacher_size') is not None:
                raise UsageError(f'model.teacher_size {model.teacher_size} does nothing beside '
                                 f'model.cached {model.cached}: give model.cached=None, or leave '
                                 f'it out')
            return      # it sees images whose sides were made its own
        for i, view in enumerate(cfg.views):
            teacher.check_size(view['size'], f'views.{i}.size')

    @classmethod
    def make_targets(cls, cfg: Any, images: ImageList, *, is_builder: bool
                     ) -> CachedFeatures | None:
        if cfg.model.get('cached') is None:
            return None
        teacher = _teacher_of(cfg.model)
        features = CachedFeatures(images, teacher, cfg.model.cached)
        if is_builder:
            features.build(images, teacher)
        return features

    def facts(self) -> dict[str, Any]:
        return {'teacher': self.teacher.link}

    def identity(self) -> dict[str, Any]:
        return {'network and input of the teacher': self.teacher.reads}

    def loss(self, views: list[View]) -> dict[str, Tensor]:
        losses = [self.compare(*self.pair(view), view) for view in views]
        return {key: torch.stack([loss[key] for loss in losses]).mean() for key in losses[0]}

    def pair(self, view: View) -> tuple[Tensor, Tensor]:
        """What the student predicts of a view and what the teacher has, on one grid (B, C, h, w).
        """
        predicted = self.projection(self.backbone(view.image)[self.stage])    # (B, C, h, w)
        with torch.no_grad():
            target = (self.teacher.features(view.image, self.data_preprocessor)
                      if self.cached is None else view.target)
            target = self.standardize(target.to(predicted.dtype))             # channel by channel
        return on_finer_grid(predicted, target)

    def compare(self, predicted: Tensor, target: Tensor, view: View) -> dict[str, Tensor]:
        """The terms of the loss on one view."""
        return {'loss': feature_loss(predicted, target, self.cosine, self.l1)}


class DistillRegions(Distill):
    """The same, and features averaged over the regions of a mask are compared as well.

    Args:
        regions: weight of the regions beside the cells. The others as for :class:`Distill`.
    """

    name = 'distill_regions'
    needs_masks = True

    def __init__(self, backbone: dict[str, Any], teacher: str | None = None,
                 teacher_as: str | None = None, teacher_stage: int | None = None,
                 teacher_size: Side | None = None, stage: int = -1, cached: Side | None = None,
                 cosine: NotNegative = COSINE, l1: NotNegative = L1,
                 regions: NotNegative = 1.0) -> None:
        super().__init__(backbone, teacher, teacher_as, teacher_stage, teacher_size, stage, cached,
                         cosine, l1)
        self.regions = regions

    def compare(self, predicted: Tensor, target: Tensor, view: View) -> dict[str, Tensor]:
        number = view.regions or int(view.mask.max()) + 1
        counts = cell_counts(view.mask, target.shape[-2:], number)            # (B, h·w, R)
        pooled = [pool_present(x, counts) for x in (predicted, target)]       # (N, C) each
        return {**super().compare(predicted, target, view),
                'loss_regions': self.regions * feature_loss(*pooled, self.cosine, self.l1)}


def _teacher_of(model: Any) -> Teacher:
    with torch.random.fork_rng([]):     # a network for its stride alone costs no draws
        stride = feature_stage(build_backbone(model.backbone), model.get('stage', -1)).stride
    return Teacher(model.get('teacher'), model.get('teacher_as'), model.get('teacher_stage'),
                   model.get('teacher_size'), stride)


def on_finer_grid(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Resize the coarser of two maps (B, C, h, w) to the grid of the finer, bilinearly."""
    size = max(a.shape[-2:], b.shape[-2:])
    a, b = (x if x.shape[-2:] == size else
            F.interpolate(x, size, mode='bilinear', align_corners=False) for x in (a, b))
    return a, b


@full_precision
def feature_loss(predicted: Tensor, target: Tensor, cosine: float, l1: float) -> Tensor:
    """cosine · (1 − cos(p, t)) + l1 · smooth-L1(p, t), the mean over cells or regions.

    Args:
        predicted, target: (B, C, h, w) or (N, C).
    """
    angle = 1 - F.cosine_similarity(predicted, target, dim=1)
    return cosine * angle.mean() + l1 * F.smooth_l1_loss(predicted, target)


def pool_present(features: Tensor, counts: Tensor) -> Tensor:
    """Average features over each region that is there, cells by the share of their pixels.

    Args:
        features: (B, C, h, w); counts: (B, h·w, R), pixels of each region in each cell.

    Returns:
        (N, C), image by image, region by region.
    """
    weights = counts.transpose(1, 2).to(features.dtype)                       # (B, R, h·w)
    area = weights.sum(2, keepdim=True)
    pooled = weights @ features.flatten(2).transpose(1, 2) / area.clamp(min=1)    # (B, R, C)
    return pooled[area[..., 0] > 0]
