"""The samples of a pretraining run, from its config."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine import Config

from densessl.errors import UsageError
from densessl.images.find import find_images
from densessl.images.image_list import ImageList
from densessl.masks.find import settle_rule
from densessl.pixels.pixel_rule import KEYS, PixelRule
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


def images_of(cfg: Config, config: str, data: str | None, masks: str | None, *, say: bool = True
              ) -> ImageList:
    """The images that a run with ``cfg`` is of; the rule by which they are read is put into
    ``cfg``, with numbers.

    Args:
        config: its path or name. data, masks: of the command line; those of ``cfg`` if None.
        say: as of :func:`densessl.masks.find.settle_rule`.

    Raises:
        UsageError: there are none.
    """
    data = data or cfg.get('data')
    if not data or not Path(data).expanduser().exists():
        where = f' at {data!r}' if data else ''
        raise UsageError(f'{config}: no images{where}: give any folder of images (or a text file '
                         f'of paths, or a COCO JSON) with --data DIR')
    stored = METHODS.get(cfg.model.type).needs_masks and (masks or (cfg.get('masks') or {}).get(
        'store'))
    images = settle_rule(find_images(data), PixelRule.of(cfg), stored or None, say=say)
    cfg.update({key: getattr(images.rule, key) for key in KEYS})
    return images


def asked_masks(cfg: Config, masks: str | None) -> dict[str, Any]:
    """What is said of the masks: where they are, or how they are made.

    Raises:
        UsageError: nothing is.
    """
    if not (masks or cfg.get('masks')):
        raise UsageError(f'{cfg.model.type} needs region masks: give masks = dict(type=…) in the '
                         f'config, or --masks DIR')
    return {'store': masks} if masks else cfg.masks.to_dict()
