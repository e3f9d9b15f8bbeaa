"""The built-in sample: the drawing agrees with its labels, the files with the request."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from densessl.demo import scenes
from densessl.demo.sample import write_scenes
from densessl.demo.scenes import CLASSES, PALETTE, THINGS, draw_scene

COUNTS = {'unlabelled': 6, 'train': 3, 'val': 2}


@pytest.fixture(scope='module')
def drawn():
    return [draw_scene(seed) for seed in range(40)]


@pytest.fixture
def sample(tmp_path):
    return write_scenes(tmp_path / 'sample', **COUNTS, size=(96, 128))


def snapshot(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob('*') if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def times(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob('*') if path.is_file()}


def test_classes_have_colors_and_include_things():
    assert len(PALETTE) == len(CLASSES) == len(set(CLASSES)) == len(set(PALETTE))
    assert set(THINGS) < set(CLASSES)


def test_equal_seeds_draw_equal_scenes():
    one, two, other = draw_scene(7), draw_scene(7), draw_scene(8)
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert [i.box for i in one.instances] == [i.box for i in two.instances]
    assert not np.array_equal(one.image, other.image)


@pytest.mark.parametrize('size', [(32, 32), (50, 200), (200, 50), (240, 320)])
def test_any_size(size):
    for seed in range(8):
        scene = draw_scene(seed, size=size)
        assert scene.image.shape == (*size, 3) and scene.image.dtype == np.uint8
        assert scene.labels.shape == size and scene.labels.dtype == np.uint8
        assert all(instance.polygons for instance in scene.instances)


@pytest.mark.parametrize('bad', [{'seed': -1}, {'seed': 0, 'size': (31, 100)}])
def test_wrong_request_is_refused(bad):
    with pytest.raises(ValueError, match='at least 32'):
        draw_scene(**bad)


def test_every_class_occurs_and_no_other(drawn):
    seen = set(np.unique([scene.labels for scene in drawn]).tolist())
    assert seen == set(range(len(CLASSES)))


def test_instances_agree_with_labels(drawn):
    """The instances of a kind, rasterized and joined, are the pixels labeled so."""
    for scene in drawn:
        joined = np.zeros_like(scene.labels)
        for instance in scene.instances:
            flat = [polygon.ravel().tolist() for polygon in instance.polygons]
            runs = coco_mask.merge(coco_mask.frPyObjects(flat, *scene.labels.shape))
            mask = coco_mask.decode(runs).astype(bool)
            own = scene.labels == CLASSES.index(instance.category)
            assert (mask & own).sum() >= 0.9 * mask.sum()
            assert mask.sum() == pytest.approx(instance.area, rel=0.1, abs=4)
            x, y, width, height = instance.box
            assert mask[y : y + height, x : x + width].sum() >= 0.97 * mask.sum()
            joined[mask] = CLASSES.index(instance.category)
        for kind in {CLASSES.index(i.category) for i in scene.instances}:
            one, two = joined == kind, scene.labels == kind
            assert (one & two).sum() >= 0.9 * (one | two).sum()
        things = scene.labels >= len(CLASSES) - len(THINGS)
        assert sum(i.area for i in scene.instances) == things.sum()


def test_polygons_leave_holes_out():
    mask = np.zeros((30, 40), np.uint8)
    cv2.circle(mask, (18, 15), 12, 1, 4)
    mask[3:6, 35:39] = 1  # a second part
    polygons = scenes._polygons(mask)
    runs = coco_mask.merge(coco_mask.frPyObjects([p.ravel().tolist() for p in polygons], 30, 40))
    assert (coco_mask.decode(runs) != mask).sum() < 0.05 * mask.sum()


def test_a_thing_that_is_hardly_visible_is_left_out():
    def thing(kind, window):
        cover = np.ones([s.stop - s.start for s in window])
        return scenes._Thing(kind, window, cover, cover, -cover, 1.0, cover, None)

    behind = thing('box', (slice(10, 20), slice(10, 20)))
    front = thing('box', (slice(9, 19), slice(9, 21)))
    assert scenes._keep_visible([behind, front], (40, 40), min_area=5) == [front]


def test_files_pair_by_stem_and_size(sample):
    assert len(list((sample / 'unlabelled').iterdir())) == COUNTS['unlabelled']
    for split in ('train', 'val'):
        images = sorted((sample / 'images' / split).iterdir())
        labels = sorted((sample / 'labels' / split).iterdir())
        assert [p.stem for p in images] == [p.stem for p in labels]
        assert len(images) == COUNTS[split]
        for image, label in zip(images, labels, strict=True):
            assert image.suffix == '.jpg' and label.suffix == '.png'
            assert cv2.imread(str(image)).shape == (96, 128, 3)
            label_map = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
            assert label_map.shape == (96, 128) and label_map.max() < len(CLASSES)
    about = json.loads((sample / 'classes.json').read_text())
    assert about['classes'] == list(CLASSES) and about['size'] == [96, 128]
    assert {name: about[name] for name in COUNTS} == COUNTS


def test_splits_share_no_picture(sample):
    pictures = [path.read_bytes() for path in sample.rglob('*.jpg')]
    assert len(set(pictures)) == len(pictures) == sum(COUNTS.values())


def test_coco_file(sample):
    coco = COCO(sample / 'annotations' / 'instances_train.json')
    assert [category['name'] for category in coco.loadCats(coco.getCatIds())] == list(THINGS)
    assert len(coco.imgs) == COUNTS['train'] and coco.anns
    for annotation in coco.anns.values():
        image = coco.imgs[annotation['image_id']]
        stem = Path(image['file_name']).stem
        assert (sample / 'images' / 'train' / image['file_name']).is_file()
        labels = cv2.imread(str(sample / 'labels' / 'train' / f'{stem}.png'), cv2.IMREAD_UNCHANGED)
        mask = coco.annToMask(annotation).astype(bool)
        kind = CLASSES.index(coco.cats[annotation['category_id']]['name'])
        assert (labels[mask] == kind).mean() >= 0.9
        assert annotation['iscrowd'] == 0 and annotation['area'] > 0


def test_same_request_keeps_the_sample(sample):
    before = times(sample)
    assert write_scenes(sample, **COUNTS, size=(96, 128)) == sample
    assert times(sample) == before


@pytest.mark.parametrize('fails_at', [1, 2, 4, 9, 13, 17, 21])
def test_interrupted_write_is_completed(sample, tmp_path, monkeypatch, fails_at):
    root, real, calls = tmp_path / 'again', os.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) == fails_at:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, 'replace', replace)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(root, **COUNTS, size=(96, 128))
    assert not (root / 'classes.json').exists()
    kept = {path: when for path, when in times(root).items() if path.parent.name == 'unlabelled'}
    write_scenes(root, **COUNTS, size=(96, 128))
    assert snapshot(root) == snapshot(sample)
    done = {path: when for path, when in kept.items() if path.suffix == '.jpg'}
    assert done.items() <= times(root).items()  # not drawn a second time


def test_other_request_replaces_the_sample(sample, tmp_path):
    other = {'unlabelled': 2, 'train': 1, 'val': 1, 'size': (64, 64), 'seed': 5}
    write_scenes(sample, **other)
    assert snapshot(sample) == snapshot(write_scenes(tmp_path / 'fresh', **other))


@pytest.mark.parametrize('then', ['the other request', 'the first request'])
def test_interrupted_replacement_is_completed(sample, tmp_path, monkeypatch, then):
    first = {**COUNTS, 'size': (96, 128)}
    other = {'unlabelled': 2, 'train': 1, 'val': 1, 'size': (64, 64)}
    real, calls = Path.unlink, []

    def unlink(path, **options):
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(path, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, 'unlink', unlink)
        write_scenes(sample, **other)
    request = other if then == 'the other request' else first
    write_scenes(sample, **request)
    assert snapshot(sample) == snapshot(write_scenes(tmp_path / 'fresh', **request))


@pytest.mark.parametrize('foreign', ['holiday.jpg', 'unlabelled/me.jpg', 'images/train/00000.jpg'])
def test_foreign_files_are_never_touched(tmp_path, foreign):
    (tmp_path / foreign).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / foreign).write_bytes(b'mine')
    with pytest.raises(ValueError, match=Path(foreign).name):
        write_scenes(tmp_path, **COUNTS)
    assert snapshot(tmp_path) == {foreign: b'mine'}


def test_foreign_file_in_own_sample_blocks_replacing(sample):
    (sample / 'notes.txt').write_text('mine')
    before = snapshot(sample)
    with pytest.raises(ValueError, match=r'notes\.txt'):
        write_scenes(sample, **{**COUNTS, 'val': 1})
    assert snapshot(sample) == before


def test_foreign_classes_json_is_not_ours(tmp_path):
    (tmp_path / 'classes.json').write_text('["cat", "dog"]')
    with pytest.raises(ValueError, match=r'classes\.json'):
        write_scenes(tmp_path, **COUNTS)


@pytest.mark.parametrize('bad', [{'val': -1}, {'train': 1_000_000}, {'seed': -1}])
def test_counts_out_of_range(tmp_path, bad):
    with pytest.raises(ValueError, match='counts'):
        write_scenes(tmp_path / 'x', **{**COUNTS, **bad})
    assert not (tmp_path / 'x').exists()


def test_workers_draw_the_same(sample, tmp_path):
    two = write_scenes(tmp_path / 'two', **COUNTS, size=(96, 128), workers=2)
    assert snapshot(two) == snapshot(sample)
