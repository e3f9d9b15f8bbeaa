"""The images of a downstream config are read as pretraining read its own: as they are displayed, by
the same rule for values of more than 8 bits (:mod:`densessl.pixels.decode`)."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine import fileio
from mmengine.registry import TRANSFORMS

from densessl.images.image_list import ImageList
from densessl.images.range_survey import with_rule
from densessl.overrides import dicts_within
from densessl.pixels.decode import UnreadableImage, open_data
from densessl.pixels.pixel_rule import PLAIN, PixelRule

_STOCK = 'LoadImageFromFile'      # OpenMMLab's
_KEPT = ('to_float32', 'ignore_empty', 'backend_args')
_SPREAD = 2000                    # images whose names are asked for, of each data set


class LoadDisplayedImage:
    """What ``LoadImageFromFile`` does, by :func:`densessl.pixels.decode.open_data`.

    Args:
        to_float32: whether the image is float32 instead of uint8.
        ignore_empty: whether an image that cannot be read is None instead of an error.
        backend_args: of ``mmengine.fileio``.
        value_range, bands: of :class:`~densessl.pixels.pixel_rule.PixelRule`.
    """

    def __init__(self, to_float32: bool = False, ignore_empty: bool = False,
                 backend_args: dict[str, Any] | None = None, value_range: Any = None,
                 bands: Any = None) -> None:
        self.to_float32, self.ignore_empty = to_float32, ignore_empty
        self.backend_args, self.rule = backend_args, PixelRule(value_range, bands)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Add ``img`` (H, W, 3) BGR and its size to what is known of a sample.

        Raises:
            UnreadableImage: the file is missing, damaged or no image.
        """
        path = results['img_path']
        try:
            pixels = open_data(path, self._data(path), self.rule).pixels()
        except UnreadableImage:
            if self.ignore_empty:
                return None
            raise
        image = np.ascontiguousarray(pixels[..., ::-1])
        size = image.shape[:2]
        results.update(img=image.astype(np.float32) if self.to_float32 else image,
                       img_shape=size, ori_shape=size)
        return results

    def _data(self, path: str) -> bytes:
        try:
            data = fileio.get(path, backend_args=self.backend_args)
        except OSError as error:
            raise UnreadableImage(path, error.strerror or str(error)) from error
        if not data:
            raise UnreadableImage(path, 'the file is empty')
        return data

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.rule})'


def register() -> None:
    """Make it known to configs; may be repeated."""
    TRANSFORMS.register_module(module=LoadDisplayedImage, force=True)


def read_as_displayed(cfg: Any, rule: PixelRule) -> list[str]:
    """Have every pipeline of a config read images by ``rule``.

    Returns:
        A line if that is not the default, or if a pipeline reads images in a way of its own.
    """
    lines = [] if rule == PLAIN else [f'images of more than 8 bits are read by {rule}']
    for step in _steps([cfg.get(f'{split}_dataloader') for split in ('train', 'val', 'test')]):
        kind = _kind(step)
        if kind == LoadDisplayedImage.__name__ or (kind == _STOCK and _is_plain(step)):
            kept = {key: step[key] for key in _KEPT if step.get(key)}
            step.clear()
            step.update(type=LoadDisplayedImage.__name__, **kept, **rule.record())
        elif kind == _STOCK:
            odd = f'images are read by {dict(step)}, as the config says'
            lines += [] if odd in lines else [odd]
    return lines


def rule_in(cfg: Any) -> PixelRule:
    """The rule by which the test pipeline of a config reads images."""
    for step in _steps(cfg.get('test_dataloader')):
        if _kind(step) == LoadDisplayedImage.__name__:
            return PixelRule.of(step)
    return PLAIN


def rule_for(meta: dict[str, Any] | None, asked: dict[str, Any] | None) -> PixelRule:
    """What was asked for, else what the provenance of a backbone says of its pretraining."""
    recorded = PixelRule.of(meta or {}, 'the provenance of the backbone').record()
    return PixelRule.of({**recorded, **(asked or {})})


def measured(rule: PixelRule, datasets: Sequence[Any], *, say: bool = True) -> PixelRule:
    """The rule in numbers, by the training images.

    Args:
        datasets: those of a config, built; of mmengine's kind.
    """
    if rule.measured and rule.value_range is not None:
        return rule
    paths = []
    for dataset in datasets:
        step = -(-len(dataset) // _SPREAD) or 1
        paths += [dataset.get_data_info(i).get('img_path') for i in range(0, len(dataset), step)]
    local = [str(Path(path).absolute()) for path in paths if path and '://' not in path]
    return with_rule(ImageList.of_paths(local), rule, say=say).rule if local else rule


def _is_plain(step: Any) -> bool:
    return (step.get('color_type', 'color') == 'color' and not step.get('file_client_args')
            and step.get('imdecode_backend') in (None, 'cv2'))


def _kind(step: Any) -> str:
    kind = step.get('type') if isinstance(step, dict) else None
    return kind.rpartition('.')[2] if isinstance(kind, str) else getattr(kind, '__name__', '')


def _steps(node: Any) -> Iterator[Any]:
    """The steps of every ``pipeline`` in a config."""
    for _, section in dicts_within({'': node}):
        if isinstance(section.get('pipeline'), (list, tuple)):
            yield from section['pipeline']
