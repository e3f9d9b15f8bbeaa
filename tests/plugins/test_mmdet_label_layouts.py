"""Labelled objects as people have them: which layout it is, and what of it is in the data set."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from disk_layouts import as_vocdevkit
from labelled_photos import (
    SIDES,
    boxes_in_pipeline,
    built,
    finetune_tiny,
    perfect_scores,
    reports,
    set_up,
    told,
    write_photo,
    xml,
)
from mmdet.datasets import VOCDataset

from densessl.cli import main
from densessl.demo.sample import write_scenes
from densessl.errors import UsageError
from densessl.labels.data_root import read_list
from densessl_plugins.mmdet.labels.label_files import drawn, files_by_stem
from densessl_plugins.mmdet.labels.xml_labels import read_xml

WIDTH, HEIGHT = SIDES
CORNERS = 6, 7, 25, 18            # the first and the last pixel, from 1 on
BOX = [5, 6, 25, 18]              # the same, as left, top, right, bottom
CAT = [('cat', CORNERS, '')]
VOC = 'faster_rcnn_c4_r18_voc'


def labelimg(root: Path, number=10, labels='.', images='.') -> Path:
    for at in range(number):
        write_photo(root / images / f'photo {at}.jpg')
        (root / labels).mkdir(exist_ok=True)
        (root / labels / f'photo {at}.xml').write_text(xml(CAT))
    return root


def year(root: Path, files: dict[str, bytes | str], lists: dict[str, bytes | str]) -> Path:
    """A folder of VOC: the content of XML files by name, and of the lists."""
    for name, content in files.items():
        write_photo(root / f'JPEGImages/{name}.jpg')
        path = root / f'Annotations/{name}.xml'
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    for name, content in lists.items():
        path = root / f'ImageSets/Main/{name}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


@pytest.mark.parametrize('config', ['retinanet_r18_coco', VOC])
@pytest.mark.parametrize(('labels', 'images', 'words'), [
    ('.', '.', 'XML files beside the images'), ('annotations', 'images', 'XML files in annotations/'
                                                )])
def test_xml_files_without_lists_are_divided_by_hash(tmp_path, config, labels, images, words):
    root = labelimg(tmp_path, labels=labels, images=images)
    write_photo(root / images / 'not labelled.png')
    (root / labels / 'orphan.xml').write_text(xml(CAT))
    (root / images / '._photo 0.jpg').write_bytes(b'of a file manager')
    write_photo(root / images / '.ipynb_checkpoints/photo 0-checkpoint.jpg')
    cfg, lines, target = set_up(root, config)
    assert words in lines[0] and 'by the hash of the names' in lines[0]
    train, val = target.inspect_data(cfg)
    assert train.used_images + val.used_images == 10 and val.used_images >= 1
    assert not {one for one, in train.samples} & {one for one, in val.samples}
    assert told(train, 'expected') == {'have no XML file': ['not labelled.png']}
    assert told(train) == {'have no image of the same name': ['orphan.xml']} and not told(val)
    assert all(boxes == [pytest.approx(BOX, abs=.1)]
               for boxes in boxes_in_pipeline(built(cfg, 'train')))
    assert built(cfg, 'val').metainfo['classes'] == ('cat',)
    scores = perfect_scores(cfg)
    assert scores['pascal_voc/mAP' if config == VOC else 'coco/bbox_mAP'] == 1


def test_a_division_by_hash_is_stable_and_leaves_no_part_empty():
    names = [f'{at}' for at in range(200)]
    val = {name for name, use in zip(names, drawn(names, 'val'), strict=True) if use}
    assert 20 < len(val) < 60
    more = names + [f'new {at}' for at in range(100)]
    again = {name for name, use in zip(more, drawn(more, 'val'), strict=True) if use}
    assert again & set(names) == val
    for number in range(2, 12):
        for start in range(20):
            parts = [drawn([f'{start} {at}' for at in range(number)], part)
                     for part in ('train', 'val')]
            assert all(any(part) for part in parts)
            assert [not one for one in parts[0]] == parts[1]
    with pytest.raises(UsageError, match='two are needed'):
        drawn(['one'], 'val')


def test_a_flat_folder_of_labelimg_goes_to_scores_by_one_command(tmp_path, capsys):
    root = labelimg(tmp_path / 'data', number=4)
    assert finetune_tiny(root, tmp_path / 'run') == 0
    said = capsys.readouterr().out
    assert 'XML files beside the images' in said and 'of 1 classes (cat)' in said
    assert 'data: train: 3 of 3 images and 3 of 3 objects' in said
    record = json.loads((tmp_path / 'run/scores.json').read_text())
    assert 0 <= record['scores']['box AP'] <= 100


def test_boxes_alone_do_not_train_masks(tmp_path, capsys):
    root = labelimg(tmp_path / 'data', number=4)
    assert main(['finetune', 'downstream/mask_rcnn_r18_coco', '--backbone', 'random', '--data-root',
                 str(root), '--work-dir', str(tmp_path / 'run')]) == 2
    line, = capsys.readouterr().err.strip().splitlines()
    assert 'boxes alone' in line and 'downstream/retinanet_r18_coco' in line
    assert not (tmp_path / 'run').exists()


ODD_XML = {    # content: objects that are used, what is said
    'good': (xml(CAT), 1, ''),
    'spaces': (xml([(' cat\n', CORNERS, '')]), 1, 'have spaces around their name'),
    'floats': (xml([('cat', ('6.0', '7', '25.4', '18'), '')], size=('60.0', '40.0')), 1, ''),
    'no size': (xml(CAT, size=None), 1, ''),
    'size 0': (xml(CAT, size=(0, 0)), 1, 'have a width or height in the file'),
    'no number': (xml(CAT, size=('sixty', 40)), 1, 'have a width or height in the file'),
    'turned': (xml([('cat', (25, 18, 6, 7), '')]), 1, 'have xmin above xmax'),
    'mark': ('\ufeff' + xml(CAT), 1, ''),
    'utf-16': (('<?xml version="1.0" encoding="utf-16"?>' + xml(CAT)).encode('utf-16'), 1, ''),
    'said utf-16': ('<?xml version="1.0" encoding="utf-16"?>' + xml(CAT), 1, ''),
    'gbk': (('<?xml version="1.0" encoding="gbk"?><!-- 图 -->' + xml(CAT)).encode('gbk'), 1, ''),
    'doctype': ('<!DOCTYPE annotation SYSTEM "http://example.invalid/voc.dtd">' + xml(CAT), 1, ''),
    'path': (xml(CAT).replace('<size>', '<path>图片</path><size>').encode('gbk'), 1, ''),
    'easy': (xml([('cat', CORNERS, '<difficult>False</difficult>')]), 1, ''),
    'no name': (xml([*CAT, ('  ', CORNERS, '')]), 1, 'have no name'),
    'no box': (xml([*CAT, ('cat', None, '')]), 1, 'have no box'),
    'half a box': (xml([*CAT, ('cat', (6, '', 25, 18), '')]), 1,
                   'have a box that is not four finite numbers'),
    'maybe': (xml([*CAT, ('cat', CORNERS, '<difficult>maybe</difficult>')]), 1,
              'have a <difficult> that is neither 0 nor 1'),
    'name in gbk': (xml([*CAT, ('车辆', CORNERS, '')]).encode('gbk'), 1,
                    'have a name in an encoding that the file does not declare'),
    'outside': (xml([*CAT, ('cat', (100, 7, 120, 18), '')]), 1, 'lie outside their image'),
    'difficult': (xml([*CAT, ('cat', CORNERS, '<difficult> 1 </difficult>')]), 1, 'are marked as'),
    'bomb': ('<!DOCTYPE a [<!ENTITY b "cat"><!ENTITY c "&b;&b;">]>' + xml([('&c;', CORNERS, '')]),
             None, 'have annotations that cannot be read: it declares entities'),
    'cut off': (xml(CAT)[:60], None, 'have annotations that cannot be read: '),
    'html': ('<html></html>', None, 'have annotations that cannot be read: its root is <html>'),
    'nothing': ('', None, 'have annotations that cannot be read: '),
}


@pytest.fixture(scope='module')
def odd_year(tmp_path_factory):
    root = tmp_path_factory.mktemp('odd') / 'VOC2010'
    names = '\r\n'.join(f'{name}  ' for name in ODD_XML)
    year(root, {name: entry[0] for name, entry in ODD_XML.items()},
         {'train': '\ufeff' + names + '\r\n\r\n', 'val': 'good 1\nspaces -1\n'})
    found = {}
    for config in (VOC, 'retinanet_r18_coco'):
        cfg, _, target = set_up(root.parent, config)
        train, val = target.inspect_data(cfg)
        data = built(cfg, 'train')
        infos = [data.get_data_info(at) for at in range(len(data))]
        found[config] = cfg, train, val, {Path(info['img_path']).stem: [
            one for one in info['instances'] if not one['ignore_flag']] for info in infos}
    return found


@pytest.mark.parametrize('config', [VOC, 'retinanet_r18_coco'])
@pytest.mark.parametrize('kind', ODD_XML)
def test_odd_xml_is_read_in_its_plain_sense_or_named(odd_year, config, kind):
    _, train, _, objects = odd_year[config]
    _, number, words = ODD_XML[kind]
    assert (len(objects[kind]) if kind in objects else None) == number
    if number:      # the last pixel of VOC's boxes is inside
        last = 1 if config == VOC else 0
        expected = [BOX[0], BOX[1], BOX[2] - last, BOX[3] - last]
        assert objects[kind][0]['bbox'] == pytest.approx(expected, abs=.5)
    said = [one for group in ('unusable', 'mended', 'expected')
            for one, files in told(train, group).items() if Path(kind).stem in {
                Path(file).stem for file in files}]
    assert [one[:len(words)] for one in said] == [words] * bool(words)


def test_an_odd_year_is_counted_and_scored(odd_year):
    for config, key in ((VOC, 'pascal_voc/mAP'), ('retinanet_r18_coco', 'coco/bbox_mAP')):
        cfg, train, val, objects = odd_year[config]
        assert train.images == len(ODD_XML) and train.used_images == len(objects)
        assert train.used_objects == sum(map(len, objects.values()))
        assert (val.images, val.used_objects) == (2, 2)
        assert perfect_scores(cfg)[key] == 1


def test_entities_are_never_expanded(tmp_path):
    path = tmp_path / 'a.xml'
    levels = ''.join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    path.write_text(f'<!DOCTYPE a [<!ENTITY e0 "lol">{levels}]>'
                    f'{xml([("&e11;", CORNERS, "")])}')
    assert 'declares entities' in read_xml(path).broken
    path.write_text(f'<!DOCTYPE a [<!ENTITY e SYSTEM "{tmp_path / "b.txt"}">]>'
                    f'{xml([("&e;", CORNERS, "")])}')
    assert 'declares entities' in read_xml(path).broken


def test_all_objects_difficult_is_refused(tmp_path, capsys):
    difficult = xml([('cat', CORNERS, '<difficult>1</difficult>')])
    root = year(tmp_path / 'data/VOC2012', {'a': difficult, 'b': difficult},
                {'train': 'a\n', 'val': 'b\n'})
    assert main(['finetune', f'downstream/{VOC}', '--backbone', 'random', '--data-root',
                 str(root.parent), '--work-dir', str(tmp_path / 'run')]) == 2
    line, = capsys.readouterr().err.strip().splitlines()
    assert 'no object that can be used for train: 1 object is marked as' in line
    assert 'a.jpg' in line and not (tmp_path / 'run').exists()


@pytest.fixture(scope='module')
def devkit(tmp_path_factory):
    folder = tmp_path_factory.mktemp('devkit')
    sample = write_scenes(folder / 'scenes', unlabelled=0, train=4, val=2, size=(64, 64))
    return as_vocdevkit(sample, folder / 'VOCdevkit')


def test_a_good_devkit_is_read_as_the_stock_data_set_reads_it(devkit):
    cfg, _, target = set_up(devkit, VOC)
    leaf = cfg.train_dataloader.dataset.datasets[0]
    stock = VOCDataset(data_root=str(devkit), ann_file=leaf.ann_file, metainfo=leaf.metainfo,
                       data_prefix=dict(leaf.data_prefix), filter_cfg=dict(leaf.filter_cfg))
    train = built(cfg, 'train').datasets[0]
    assert len(train) == len(stock) == 2
    for at in range(len(stock)):
        ours, theirs = train.get_data_info(at), stock.get_data_info(at)
        assert ours == {**theirs, 'img_path': ours['img_path'], 'xml_path': ours['xml_path']}
        assert Path(ours['img_path']).samefile(theirs['img_path'])
    assert [report.used_images for report in target.inspect_data(cfg)] == [2, 2, 2]


def test_linked_folders_count_and_loops_end(tmp_path):
    root = tmp_path / 'labels'
    (tmp_path / 'far').mkdir()
    (root / '.ipynb_checkpoints').mkdir(parents=True)
    for path in (root / 'a.xml', tmp_path / 'far/b.XML', root / '._a.xml',
                 root / '.ipynb_checkpoints/a-checkpoint.xml', root / 'a.jpg'):
        path.write_text('')
    (root / 'linked').symlink_to(tmp_path / 'far')
    (tmp_path / 'far/loop').symlink_to(root)
    (tmp_path / 'far/again').symlink_to(tmp_path / 'far')
    assert files_by_stem(root, {'.xml'}) == {
        'a': [root / 'a.xml'], 'linked/b': [root / 'linked/b.XML']}


@pytest.mark.parametrize('given', ['kit', 'year', 'above'])
def test_one_year_is_enough(devkit, tmp_path, given):
    kit = tmp_path / 'VOCdevkit'
    shutil.copytree(devkit / 'VOC2007', kit / 'VOC2008')
    root = {'kit': kit, 'year': kit / 'VOC2008', 'above': tmp_path}[given]
    for config in (VOC, 'retinanet_r18_coco'):
        train, val = reports(root, config)
        assert (train.used_images, val.used_images) == (2, 2) and train.used_objects > 2
    lists = kit / 'VOC2008/ImageSets/Main'
    (lists / 'test.txt').rename(lists / 'val.txt')
    (lists / 'trainval.txt').rename(lists / 'train.txt')
    assert [report.used_images for report in reports(root, VOC)] == [2, 2]
    (lists / 'val.txt').unlink()
    with pytest.raises(UsageError, match='has no lists for training and validation'):
        set_up(root, VOC)


def test_lists_may_have_flags_spaces_and_suffixes(tmp_path):
    path = tmp_path / 'list.txt'
    known = {'a b', 'c', 'd 1', 'e', 'f', '2007_000001'}
    path.write_bytes('\ufeff a b  1\r\n\r\nc -1\nd 1\n./sub/e.jpg\nf\t 0\n2007_000001\nc 1\n'
                     .encode())
    assert read_list(path, known) == ['a b', 'c', 'd 1', 'e', 'f', '2007_000001']
    path.write_bytes('a b\nc\n'.encode('utf-16'))
    assert read_list(path, known) == ['a b', 'c']
    path.write_bytes('a b\nc\n'.encode('utf-16')[:-1])
    with pytest.raises(UsageError, match='save it as UTF-8'):
        read_list(path, known)


@pytest.mark.parametrize('config', ['retinanet_r18_coco', VOC])
def test_an_unknown_layout_is_refused_with_those_that_are_known(tmp_path, config):
    write_photo(tmp_path / 'a.jpg')
    with pytest.raises(UsageError, match='known layout') as refused:
        set_up(tmp_path, config)
    assert all(word in str(refused.value) for word in ('COCO', 'VOC', 'LabelImg', 'YOLO'))
    with pytest.raises(UsageError, match='no folder'):
        set_up(tmp_path / 'nowhere', config)
