"""The samples of a pretraining run, from its config."""
from __future__ import annotations

from typing import Any

from mmengine import Config

from densessl.errors import UsageError
from densessl.images.image_list import ImageList
from densessl.registry import METHODS
from densessl.views.dataset import ViewDataset
from densessl.views.unreadable import UnreadableImages
from densessl.views.view import view_class_of


def dataset_of(cfg: Config, images: ImageList, masks: Any, labels: Any = None,
               unreadable: UnreadableImages | None = None) -> ViewDataset:
    """The samples that a run with ``cfg`` sees; ``masks`` gives the masks, if there are any."""
    view_class = view_class_of(METHODS.get(cfg.model.type))
    return ViewDataset(images, masks, [view_class(**view) for view in cfg.views],
                       seed=cfg.seed, uniforms=cfg.uniforms, labels=labels, unreadable=unreadable)


def masks_folder(cfg: Config, masks: str | None) -> str | None:
    """The masks that the user names; None if they are made for the run, or not needed."""
    named = METHODS.get(cfg.model.type).needs_masks and (masks or (cfg.get('masks') or {}).get(
        'store'))
    return named or None


def asked_masks(cfg: Config, masks: str | None) -> dict[str, Any]:
    """What is said of the masks: where they are, or how they are made.

    Raises:
        UsageError: nothing is.
    """
    if not (masks or cfg.get('masks')):
        raise UsageError(f'{cfg.model.type} needs region masks: give masks = dict(type=…) in the '
                         f'config, or --masks DIR')
    return {'store': masks} if masks else cfg.masks.to_dict()
