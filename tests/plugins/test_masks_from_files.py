"""Regions that are in files: a folder of label maps, a JSON in COCO's format."""
import json
import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as rle

from densessl.demo.sample import write_scenes
from densessl.errors import UsageError
from densessl.images.find import find_images
from densessl.masks.build import make_masks
from densessl.masks.store import MaskStore
from densessl.registry import MASK_GENERATORS

IMAGE = np.zeros((6, 8, 3), np.uint8)
VALUES = np.repeat([[3, 3, 90, 90, 90, 7, 7, 7]], 6, axis=0)
REGIONS = np.repeat([[0, 0, 2, 2, 2, 1, 1, 1]], 6, axis=0)       # in the order of the values


def label_maps(folder):
    return MASK_GENERATORS.build(dict(type='label_maps', folder=str(folder)))


def palette(values):
    image = Image.fromarray(values.astype(np.uint8), 'P')
    image.putpalette([5] * 768)             # all of one color: the indices are the labels
    return image


@pytest.mark.parametrize('name, save', [
    ('x.png', lambda path: Image.fromarray(VALUES.astype(np.uint8)).save(path)),
    ('x.png', lambda path: Image.fromarray((VALUES * 700).astype(np.uint16)).save(path)),
    ('x.png', lambda path: palette(VALUES).save(path)),
    ('x.tif', lambda path: tifffile.imwrite(path, VALUES.astype(np.uint16))),
    ('x.tif', lambda path: tifffile.imwrite(path, (VALUES * 10 ** 6).astype(np.uint32))),
    ('x.tiff', lambda path: tifffile.imwrite(path, (VALUES - 50).astype(np.int32))),
    ('x.tiff', lambda path: tifffile.imwrite(path, VALUES.astype(np.float32))),
], ids=['8 bit', '16 bit', 'palette', 'tiff 16', 'tiff 32', 'negative', 'whole floats'])
def test_label_maps_of_any_kind(tmp_path, name, save):
    (tmp_path / 'a').mkdir()
    save(tmp_path / 'a' / name)
    labels = label_maps(tmp_path).for_image('a/x.jpg', IMAGE)
    assert (labels == REGIONS).all()


def test_every_color_is_a_region(tmp_path):
    colors = np.array([(9, 0, 0), (0, 9, 0), (0, 0, 9), (9, 9, 0)], np.uint8)
    values = np.random.default_rng(0).integers(0, 4, (6, 8))
    Image.fromarray(colors[values]).save(tmp_path / 'x.png')
    labels = label_maps(tmp_path).for_image('x.jpg', IMAGE)
    assert labels.max() == 3
    assert all(len(np.unique(labels[values == value])) == 1 for value in range(4))


def test_what_is_no_label_map_is_skipped_and_listed(tmp_path):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'maps').mkdir()
    for name in ('good', 'none', 'float', 'small', 'broken'):
        Image.fromarray(IMAGE).save(tmp_path / 'in' / f'{name}.jpg')
    Image.fromarray(VALUES.astype(np.uint8)).save(tmp_path / 'maps' / 'good.png')
    Image.fromarray(VALUES[:3].astype(np.uint8)).save(tmp_path / 'maps' / 'small.png')
    tifffile.imwrite(tmp_path / 'maps' / 'float.tif', VALUES.astype(np.float32) / 7)
    (tmp_path / 'maps' / 'broken.png').write_bytes(b'no PNG')
    make_masks(find_images(tmp_path / 'in'), tmp_path / 'out', label_maps(tmp_path / 'maps'),
               workers=1, progress=False)
    store = MaskStore(tmp_path / 'out')
    assert (store.read('good.jpg') == REGIONS).all()
    skipped = store.skipped()
    assert sorted(skipped) == ['broken.jpg', 'float.jpg', 'none.jpg', 'small.jpg']
    assert 'whole numbers or colors' in skipped['float.jpg']
    assert 'no label map' in skipped['none.jpg'] and '(1, 3, 8)' in skipped['small.jpg']


def test_workers_read_the_files_too(tmp_path):
    sample = write_scenes(tmp_path / 's', unlabelled=0, train=5, val=1, size=(64, 64))
    images = find_images(sample / 'images')
    for config in (dict(type='label_maps', folder=str(sample / 'labels')),
                   dict(type='coco', annotations=str(sample / 'annotations/instances_train.json'))):
        summary = make_masks(images, tmp_path / config['type'], MASK_GENERATORS.build(config),
                             workers=2, progress=False)
        assert summary.made >= 5 and set(summary.skipped) <= {'val/00000.jpg'}
    labels = MaskStore(tmp_path / 'label_maps').read('train/00000.jpg')
    truth = np.asarray(Image.open(sample / 'labels' / 'train' / '00000.png'))
    assert (np.unique(truth)[labels] == truth).all()


# -- COCO ------------------------------------------------------------------------------------------

ENTRY = {'id': 7, 'file_name': 'd/x.jpg', 'height': 6, 'width': 8}


def coco(path, annotations, *, images=(ENTRY,)):
    path.write_text(json.dumps({'images': list(images), 'annotations': annotations}))
    return MASK_GENERATORS.build(dict(type='coco', annotations=str(path)))


def box(x0, y0, x1, y1):
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def test_instances_lie_over_earlier_ones_and_over_crowds(tmp_path):
    crowd = np.zeros((6, 8), np.uint8, order='F')
    crowd[:, 4:] = 1
    counts = rle.encode(crowd)
    plain = {'size': [6, 8], 'counts': [24, 24]}        # the same, uncompressed: columns 4 to 7
    for shape in ({'size': counts['size'], 'counts': counts['counts'].decode()}, plain):
        generator = coco(tmp_path / 'i.json', [
            {'image_id': 7, 'segmentation': box(0, 0, 3, 3), 'iscrowd': 0},
            {'image_id': 7, 'segmentation': box(2, 2, 6, 6)},
            {'image_id': 7, 'segmentation': [[1, 1]]},                  # no area: left out
            {'image_id': 7, 'segmentation': shape, 'iscrowd': 1}])
        labels = generator.for_image('x.jpg', IMAGE)
        expected = np.zeros((6, 8), int)
        expected[:, 4:] = 1
        expected[:3, :3] = 2
        expected[2:6, 2:6] = 3
        assert (labels == expected).all()
        assert (pickle.loads(pickle.dumps(generator)).for_image('x.jpg', IMAGE) == labels).all()


def test_panoptic_segments_are_regions(tmp_path):
    generator = coco(tmp_path / 'panoptic_val.json', [
        {'image_id': 7, 'file_name': 'x.png', 'segments_info': [{'id': 1}, {'id': 256}]}])
    (tmp_path / 'panoptic_val').mkdir()
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[:, 3:, 0], pixels[4:, :, 1] = 200, 3
    Image.fromarray(pixels).save(tmp_path / 'panoptic_val' / 'x.png')
    labels = generator.for_image('d/x.jpg', IMAGE)
    assert len(np.unique(labels)) == 4 and labels[0, 0] == 0
    assert len(np.unique(labels[4:, 3:])) == 1 and len(np.unique(labels[:4, 3:])) == 1


@pytest.mark.parametrize('written', ['{}', './{}', './/f/../{}'])
def test_images_are_found_by_their_names(tmp_path, written):
    images = [{'id': 1, 'file_name': written.format('d/x.jpg'), 'height': 6, 'width': 8},
              {'id': 2, 'file_name': written.format('e/x.jpg'), 'height': 6, 'width': 8},
              {'id': 3, 'file_name': 'e/y.jpg', 'height': 6, 'width': 9}]
    generator = coco(tmp_path / 'i.json', [{'image_id': 2, 'segmentation': box(0, 0, 8, 3)}],
                     images=images)
    assert not generator.for_image('root/d/x.jpg', IMAGE).any()
    assert generator.for_image('e/x.jpg', IMAGE).any()
    for name, error, says in [('x.jpg', LookupError, 'is not in'),      # which of the two?
                              ('z.jpg', LookupError, 'z.jpg is not in'),
                              ('y.jpg', ValueError, '9×6, but it is 8×6')]:
        with pytest.raises(error, match=says):
            generator.for_image(name, IMAGE)


TEXT_FLAG = json.dumps({'images': [ENTRY], 'annotations': [
    {'image_id': 7, 'segmentation': [], 'iscrowd': '0'}]})
TWO_MAPS = json.dumps({'images': [ENTRY], 'annotations': [
    {'image_id': 7, 'segments_info': [], 'file_name': name} for name in ('x.png', 'y.png')]})


@pytest.mark.parametrize('content', ['{', '[]', '{"images": [{"id": 3}], "annotations": []}',
                                     '{"images": [], "annotations": [{"image_id": 4}]}',
                                     TWO_MAPS, TEXT_FLAG])
def test_a_broken_file_ends_the_build(tmp_path, content):
    (tmp_path / 'a.json').write_text(content)
    (tmp_path / 'in').mkdir()
    Image.fromarray(IMAGE).save(tmp_path / 'in' / 'x.png')
    generator = MASK_GENERATORS.build(dict(type='coco', annotations=str(tmp_path / 'a.json')))
    for workers in (1, 2):
        with pytest.raises(UsageError, match=r'a\.json cannot be used as annotations'):
            make_masks(find_images(tmp_path / 'in'), tmp_path / 'out', generator, workers=workers)


def test_images_are_drawn_where_they_are(tmp_path):
    """On the built-in sample, objects are where the label maps say."""
    sample = write_scenes(tmp_path, unlabelled=0, train=3, val=0, size=(96, 96))
    generator = MASK_GENERATORS.build(dict(
        type='coco', annotations=str(sample / 'annotations' / 'instances_train.json')))
    for i in range(3):
        truth = np.asarray(Image.open(sample / 'labels' / 'train' / f'{i:05d}.png')) >= 6
        objects = generator.for_image(f'{i:05d}.jpg', np.zeros((96, 96, 3), np.uint8)) > 0
        assert (objects & truth).sum() > 0.9 * (objects | truth).sum() > 50


@pytest.mark.parametrize('shape', [
    [[0, 0, 1e9, 1e9, 0, 5]], [[0, 0, float('nan'), 1, 1, 1]], [[0, 0, float('inf'), 1, 1, 1]],
    [['0'] * 6], ['0' * 6], [[[0]] * 6], {'size': [30_000, 30_000], 'counts': '0' * 9},
    {'size': [6, 8], 'counts': [1, 2]}, {'size': [6, 8], 'counts': [-1, 49]},
    {'size': [6, 8], 'counts': [2 ** 40]}, {'size': [6, 8]}, {'counts': [48]}, 'x', 5, None])
def test_shapes_that_would_crash_compiled_code_are_refused_before(tmp_path, shape):
    """Coordinates far outside end pycocotools by a segmentation fault."""
    generator = coco(tmp_path / 'i.json', [{'image_id': 7, 'segmentation': shape}])
    with pytest.raises(ValueError, match=r'polygon must be|mask must be|counts of an RLE'):
        generator.for_image(ENTRY['file_name'], IMAGE)


@pytest.mark.parametrize('name', ['../x.png', '/etc/x.png', 'a/../../x.png', 5])
def test_a_panoptic_map_lies_beside_its_annotations(tmp_path, name):
    generator = coco(tmp_path / 'p.json', [{'image_id': 7, 'file_name': name,
                                            'segments_info': []}])
    with pytest.raises(UsageError, match=r'names an image|file_name must be text'):
        generator.for_image(ENTRY['file_name'], IMAGE)


@pytest.mark.parametrize('content', ['[' * 100_000, '{"images": 5, "annotations": []}', '5'])
def test_odd_annotations_are_one_line(tmp_path, content):
    (tmp_path / 'a.json').write_text(content)
    generator = MASK_GENERATORS.build(dict(type='coco', annotations=str(tmp_path / 'a.json')))
    with pytest.raises(UsageError, match='cannot be used as annotations') as error:
        generator.for_image('x.jpg', IMAGE)
    assert '\n' not in str(error.value)
