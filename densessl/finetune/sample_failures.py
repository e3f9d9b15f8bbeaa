"""A sample of the labelled data that cannot be loaded: which file it is, in one line."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dataset import Compose

from densessl.errors import RunFailed, UsageError
from densessl.images.image_list import EXTENSIONS
from densessl.pixels.decode import UnreadableImage, read_image
from densessl.pixels.decoders import set_log_level

INSIDE = ('datasets', 'dataset', '_dataset')    # where mmengine's wrappers keep what they wrap


class NamedFailures(Compose):
    """The same transforms; what one of them raises becomes a RunFailed that names the file. One
    line of text is all that comes through from a loader's worker."""

    def __call__(self, data: dict[str, Any]) -> dict[str, Any] | None:
        before = dict(data)      # transforms change it
        try:
            for transform in self.transforms:
                loaded = 'gt_seg_map' in data
                data = transform(data)
                if data is None:
                    return None
                if not loaded and 'gt_seg_map' in data:
                    _check_map(data)
            return data
        except (RunFailed, UsageError):
            raise
        except UnreadableImage as error:
            raise RunFailed(_mend(error)) from error
        except Exception as error:      # decoders and transforms raise anything on odd data
            raise RunFailed(_reason(before, error)) from error


def name_failures(dataset: Any) -> None:
    """Have every data set inside wrappers name the file of a sample that cannot be loaded; before
    a loader starts its workers, which take copies."""
    set_log_level(2)    # errors: its warnings of damage do not say which file
    found = [getattr(dataset, name) for name in INSIDE if hasattr(dataset, name)]
    if found:
        for part in found[0] if isinstance(found[0], (list, tuple)) else found[:1]:
            name_failures(part)
    elif type(getattr(dataset, 'pipeline', None)) is Compose:
        dataset.pipeline = NamedFailures(dataset.pipeline.transforms)


def _check_map(data: Mapping[str, Any]) -> None:
    """Raise RunFailed if a label map, just loaded, is not of the size of its image: much later, a
    batch or a score of it would fail without a name."""
    size, image = data['gt_seg_map'].shape[:2], data.get('ori_shape')
    if image is not None and tuple(size) != tuple(image[:2]):
        raise RunFailed(f'{data.get("seg_map_path")} has {size[1]}×{size[0]} pixels, but its image '
                        f'{data.get("img_path")} is displayed at {image[1]}×{image[0]}; densessl '
                        f'check finds all such files')


def _reason(info: Mapping[str, Any], error: Exception) -> str:
    """The first of the sample's files that is not an image; else what was raised, with all of them.

    Args:
        info: of the sample; the paths of its files are under ``…_path``.
    """
    paths = [str(value) for key, value in info.items() if key.endswith('_path') and value]
    for path in paths:
        if Path(path).suffix.lower() in EXTENSIONS and '://' not in path:
            try:
                read_image(path)
            except UnreadableImage as unreadable:
                return _mend(unreadable)
    return (f'cannot make a sample of {" and ".join(paths) or dict(info)}: '
            f'{type(error).__name__}: {_one_line(error)}')


def _mend(error: UnreadableImage) -> str:
    return f'cannot load {_one_line(error)}; mend the file, or take it out of the data set'


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())
