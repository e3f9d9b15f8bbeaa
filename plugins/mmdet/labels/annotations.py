"""COCO's annotation files as exports write them: read, and brought into the one form that
MMDetection's data set and metric read alike."""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from densessl.errors import UsageError
from densessl.files.json_files import parse_json
from densessl_plugins.mmdet.labels.finding_log import FindingLog
from densessl_plugins.mmdet.labels.image_frames import settle_sizes
from densessl_plugins.mmdet.labels.object_reader import ObjectReader
from densessl_plugins.mmdet.labels.outlines import finite_numbers

Content = dict[str, Any]


def read_annotations(path: Path) -> Content:
    """The content of a COCO JSON, of which images and categories have each their own id.

    Raises:
        UsageError: it is in another format, or an id stands for two images or two categories.
    """
    try:
        content = parse_json(path.read_bytes())
        for kind, name in (('images', 'file_name'), ('categories', 'name')):
            content[kind] = _each_once(content[kind], name, path, kind)
        for one in content['annotations']:
            hash((one['image_id'], one['category_id']))
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f'cannot read {path}: {error.strerror}') from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f'{path} is not in COCO’s format (images with id and file_name, '
                         f'annotations with image_id and category_id, categories with id and '
                         f'name): {error!r}') from error
    return content


def _each_once(entries: Sequence[Content], name: str, path: Path, kind: str) -> list[Content]:
    """``entries`` without those that say the same again."""
    known: dict[Any, Content] = {}
    for one in entries:
        if not isinstance(one[name], str):
            raise TypeError(f'{name} must be text, not {one[name]!r}')
        other = known.setdefault(one['id'], one)
        if other[name] != one[name]:
            raise UsageError(f'{path} has id {one["id"]!r} more than once among its {kind} '
                             f'({other[name]!r} and {one[name]!r}); each must have its own')
    return list(known.values())


def wrong_ids(ids: Mapping[str, Sequence[Any]], used: Mapping[str, Iterable[Any]]) -> str | None:
    """What is wrong with the ids in a file, in words; None if each is there once.

    Args:
        ids: of what a file lists, by ``images`` and ``categories``.
        used: those that annotations refer to, by the same.
    """
    for kind, listed in ids.items():
        known = set(listed)
        if len(known) < len(listed):
            often, _ = Counter(listed).most_common(1)[0]
            return f'id {often!r} more than once among its {kind}; each must have its own'
        lost = [one for one in used.get(kind, ()) if one not in known]
        if lost:
            shown = f' ({", ".join(map(str, listed[:20]))})' if kind == 'categories' else ''
            return (f'annotations of {"category" if shown else "image"} {lost[0]!r}, which is not '
                    f'among its {kind}{shown}')
    return None


def normalize(content: Content, images: Path, log: FindingLog, masks: bool = False) -> None:
    """Bring annotations into one form, in place, whatever the spelling: sizes are those of the
    images as displayed, every object has a box of pixels inside its image, an area, ``iscrowd`` 0
    or 1 and an id of its own. What has no plain meaning is left out, with a line in ``log``.

    Args:
        content: of :func:`read_annotations`. images: the folder of the images.
        masks: whether every object must have an outline. One that has none becomes a region that
            neither trains nor scores, as COCO's crowds are: left out, it would be background.
    """
    objects = _by_image(content, images, log)
    in_shares = _in_shares(content['annotations'])
    content['images'] = settle_sizes(content['images'], objects, images, log, in_shares)
    kept = []
    for image in content['images']:
        each = ObjectReader(image, str(images / image['file_name']), in_shares, masks, log)
        kept += [one for one in objects[image['id']] if each.read(one)]
    _number(kept, log)
    content['annotations'] = kept


def _by_image(content: Content, images: Path, log: FindingLog) -> dict[Any, list[Content]]:
    """Annotations by the image they are of; ids may be text in one place and numbers in another.
    """
    listed = {kind: {str(one['id']): one for one in content[kind]}
              for kind in ('images', 'categories')}
    objects = defaultdict(list)
    for one in content['annotations']:
        image, category = (listed[kind].get(str(one[key])) for kind, key in (
            ('images', 'image_id'), ('categories', 'category_id')))
        if image is None:
            log.add('are of an image that the file does not list', f'image {one["image_id"]}')
        elif category is None:
            log.add(f'are of category {one["category_id"]}, which the file does not list',
                    str(images / image['file_name']))
        else:
            one['image_id'], one['category_id'] = image['id'], category['id']
            objects[image['id']].append(one)
    return objects


def arrange_categories(content: Content, names: Sequence[str], images: Path, log: FindingLog
                       ) -> None:
    """Bring the categories of a file into the order of ``names``, in place; labels are the
    positions in it, whatever the ids. Objects of other categories are left out."""
    name_of = {one['id']: one['name'].strip() for one in content['categories']}
    ids: dict[str, Any] = {}
    for number, name in name_of.items():
        ids.setdefault(name, number)
    free = max((one for one in name_of if isinstance(one, int)), default=0) + 1
    for name in names:
        if name not in ids:
            ids[name], free = free, free + 1
    content['categories'] = [{'id': ids[name], 'name': name} for name in names]
    files = {one['id']: str(images / one['file_name']) for one in content['images']}
    wanted, kept = set(names), []
    for one in content['annotations']:
        name = name_of[one['category_id']]
        one['category_id'] = ids[name]
        if name in wanted:
            kept.append(one)
        else:
            log.add(f'are of class {name!r}, which the training data does not have',
                    files[one['image_id']])
    content['annotations'] = kept


def class_names(content: Content) -> list[str]:
    """The names of the categories in the order of their ids, each once: some exports list one
    twice, under the ids of a group and of its member."""
    try:
        listed = sorted(content['categories'], key=lambda one: one['id'])
    except TypeError:       # ids of different types
        listed = sorted(content['categories'], key=lambda one: str(one['id']))
    return list(dict.fromkeys(one['name'].strip() for one in listed))


def _in_shares(objects: Sequence[Content]) -> bool:
    """Whether all boxes are of shares of the image (0 … 1) instead of pixels: no box of a file in
    pixels would be wider than one."""
    found = False
    for one in objects:
        box = finite_numbers(one.get('bbox') or ())
        if box:
            if not all(0 <= value <= 1 for value in box):
                return False
            found = True
    return found


def _number(objects: Sequence[Content], log: FindingLog) -> None:
    """Give every object an id of its own from 1 on: COCO's evaluation takes an id of 0 for "not
    found", and of two objects with one id it forgets the first."""
    ids = [one.get('id') for one in objects]
    if not all(type(one) is int and one > 0 for one in ids) or len(set(ids)) < len(ids):
        log.filled['id'] += len(ids)
        for number, one in enumerate(objects, 1):
            one['id'] = number
