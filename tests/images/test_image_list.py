"""Any folder, list or JSON of images is a data set."""
import json
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from densessl.errors import UsageError
from densessl.images.find import _listed, find_images
from densessl.images.image_list import ImageList


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(images):
    return [images.name(i) for i in range(len(images))]


def test_a_folder_is_searched_recursively_in_order(tmp_path):
    root = tmp_path / 'data'
    touch(root / 'b.JPG', root / 'a' / 'x.png', root / 'a' / 'deep' / 'y.jpeg', root / 'notes.md',
          root / '.hidden.jpg', root / '.cache' / 'z.jpg', tmp_path / 'far' / 'w.webp')
    (root / 'linked').symlink_to(tmp_path / 'far')
    (root / 'a' / 'loop').symlink_to(root)
    (root / 'broken.png').symlink_to('nowhere')
    images = find_images(root)
    assert names(images) == ['a/deep/y.jpeg', 'a/x.png', 'b.JPG', 'broken.png', 'linked/w.webp']
    assert images.path(1) == root / 'a' / 'x.png'
    assert len(images) == 5 and images.root == root


def test_what_programs_leave_beside_images_is_none(tmp_path, capsys):
    real = ['a.jpg', 'deep/b.png']
    left = ['._a.jpg', 'deep/._b.png', '.ipynb_checkpoints/a-checkpoint.jpg', '__MACOSX/a.jpg',
            'deep/__MACOSX/deep/b.png', 'Thumbs.db', 'deep/.ipynb_checkpoints/b-checkpoint.png']
    touch(*(tmp_path / name for name in real + left))
    assert names(find_images(tmp_path)) == real
    (tmp_path / 'list.txt').write_text('\n'.join(real + left[:5] + left[6:]))
    assert names(find_images(tmp_path / 'list.txt')) == real
    assert '6 names in' in capsys.readouterr().err
    with tarfile.open(tmp_path / 'x.tar', 'w') as tar:
        for name in real + left:
            tar.addfile(tarfile.TarInfo(name))
    assert names(find_images(tmp_path / 'x.tar')) == [f'x/{name}' for name in real]


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be'])
def test_lists_in_any_encoding_with_a_mark(tmp_path, encoding):
    touch(tmp_path / 'ü.jpg', tmp_path / 'b.jpg')
    mark = {'utf-16-le': b'\xff\xfe', 'utf-16-be': b'\xfe\xff'}.get(encoding, b'')
    (tmp_path / 'list.txt').write_bytes(mark + 'ü.jpg\r\nb.jpg\r\n'.encode(encoding))
    assert names(find_images(tmp_path / 'list.txt')) == ['ü.jpg', 'b.jpg']
    content = json.dumps({'images': [{'file_name': 'ü.jpg'}]}, ensure_ascii=False)
    (tmp_path / 'list.json').write_bytes(mark + content.encode(encoding))
    assert names(find_images(tmp_path / 'list.json')) == ['ü.jpg']


def test_other_encodings_get_one_line(tmp_path):
    touch(tmp_path / 'a.jpg')
    for data in ('a.jpg\n'.encode('utf-16-le'), b'\xff\xfea\0.\0\0\xd8'):
        (tmp_path / 'list.txt').write_bytes(data)
        with pytest.raises(UsageError, match='save it as UTF-8'):
            find_images(tmp_path / 'list.txt')


def test_names_of_any_bytes_survive(tmp_path):
    odd = [b'\xff\xfe.jpg', 'ü\u2028 \U0001f40c.png'.encode(), b'new\nline\t.png', b' a .jpg']
    for name in odd:
        Path(os.fsdecode(os.fsencode(tmp_path) + b'/' + name)).touch()
    images = find_images(tmp_path)
    assert sorted(os.fsencode(name) for name in names(images)) == sorted(odd)
    assert all(images.path(i).exists() for i in range(len(images)))
    assert names(pickle.loads(pickle.dumps(images))) == names(images)


def test_a_million_names_stay_small():
    listed = [f'n{i % 1000:08d}/n{i % 1000:08d}_{i}.JPEG'.encode() for i in range(100_000)]
    images = ImageList.of(Path('/data'), Path('/data'), listed)
    assert len(pickle.dumps(images)) < 1.4 * sum(map(len, listed))
    assert images.name(99_999) == listed[-1].decode()
    some = images.select(range(5, 100_000, 1000))
    assert len(some) == 100 and some.name(1) == images.name(1005)
    assert some.digest() != images.digest() == ImageList.of(*[Path('/b')] * 2, listed).digest()
    for i in (100_000, -1):
        with pytest.raises(IndexError):
            images.name(i)


def test_a_list_of_paths(tmp_path):
    touch(tmp_path / 'p' / 'a b.jpg', tmp_path / 'p' / 'c.png')
    source = tmp_path / 'list.txt'
    source.write_bytes(b'\xef\xbb\xbfp/c.png\r\n\r\n' + f'{tmp_path}/p/a b.jpg\np/c.png\n'.encode())
    images = find_images(source)
    assert images.root == tmp_path and names(images) == ['p/c.png', 'p/a b.jpg']


def test_a_list_of_paths_elsewhere(tmp_path):
    touch(tmp_path / 'p' / 'a.jpg', tmp_path / 'q' / 'b.jpg', tmp_path / 'lists' / 'x')
    source = tmp_path / 'lists' / 'all.txt'
    source.write_text(f'../p/a.jpg\n{tmp_path}/q/b.jpg\n')
    images = find_images(source)
    assert images.root == tmp_path and names(images) == ['p/a.jpg', 'q/b.jpg']


def test_lists_agree_with_taking_one_path_at_a_time(tmp_path):
    """Whatever mixture of relative, absolute, outside and repeated paths a list holds."""
    rng = np.random.default_rng(0)
    folder = tmp_path / 'list'
    heads = ['', './', 'a/', 'a/b/', 'a/b-x/', 'a//b/', 'a/../', '..a/', '../', '../list/',
             f'{tmp_path}/', f'{folder}/', f'{folder}/a/', '/']
    for _ in range(300):
        some = rng.choice(heads, size=rng.integers(1, 4))
        paths = [f'{rng.choice(some)}{rng.integers(5)}.jpg' for _ in range(rng.integers(1, 9))]
        full = list(dict.fromkeys(os.path.normpath(folder / path) for path in paths))
        root = str(folder)
        if not all(path.startswith(f'{root}/') for path in full):
            root = os.path.commonpath([os.path.dirname(path) for path in full])
        images = _listed(folder / 'list.txt', folder, paths)
        assert str(images.root) == root, paths
        assert [str(images.path(i)) for i in range(len(images))] == full, paths


@pytest.mark.parametrize('file, folder', [
    ('annotations/instances_train2017.json', 'train2017'),
    ('annotations/instances_train2017.json', 'images/train2017'),
    ('train.json', '.'),
    ('train.json', 'images'),
    ('train/_annotations.coco.json', 'train'),
])
def test_a_json_finds_its_images(tmp_path, file, folder):
    touch(tmp_path / 'val2017' / 'other.jpg', tmp_path / folder / '1.jpg', tmp_path / file)
    entries = [{'id': 1, 'file_name': '1.jpg'}, {'id': 2, 'file_name': 'sub/2.jpg'}]
    (tmp_path / file).write_text(json.dumps({'images': entries}))
    images = find_images(tmp_path / file)
    assert images.path(0) == tmp_path / folder / '1.jpg' and images.path(0).exists()
    assert names(images) == ['1.jpg', 'sub/2.jpg']


def test_a_json_prefers_the_split_in_its_name(tmp_path):
    for split in ('train', 'val'):
        touch(tmp_path / split / '1.jpg')
    source = tmp_path / 'annotations' / 'val.json'
    touch(source)
    source.write_text('{"images": [{"file_name": "1.jpg"}]}')
    assert find_images(source).root == tmp_path / 'val'


@pytest.mark.parametrize('file, folder, others', [
    ('instances.json', 'images', ['gt', 'masks', 'a']),
    ('instances.json', 'pictures', ['gtFine', 'SegmentationClass', 'images/labels']),
    ('train.json', 'train_images', ['test_images', 'images_val', 'train_gt', 'a']),
    ('annotations/train.json', 'images/train', ['annotations', 'annotations/a', 'images/test']),
    ('labels/all.json', 'images', ['labels', 'labels/val', 'a']),
    ('annotations/panoptic_train.json', 'train', ['annotations/panoptic_train', 'val']),
    ('annotations/train.json', 'images/train', ['annotations/train']),
    ('d/all.json', 'd/pictures', ['other', '.']),
    ('d/test.json', 'd/rgb', ['images/train', 'test_labels'])])
def test_a_json_takes_no_labels_and_no_other_split(tmp_path, file, folder, others):
    touch(tmp_path / folder / '0.png', *(tmp_path / other / '0.png' for other in others),
          tmp_path / file)
    (tmp_path / file).write_text('{"images": [{"file_name": "0.png"}], "annotations": '
                                 '[{"segments_info": []}]}')
    assert find_images(tmp_path / file).root == tmp_path / folder
    (tmp_path / folder / '0.png').unlink()
    if 'panoptic' in file:      # another split is the last resort, its own label maps are none
        assert find_images(tmp_path / file).root == tmp_path / 'val'
        (tmp_path / 'val' / '0.png').unlink()
        with pytest.raises(UsageError, match=r'in none of .*give a .txt file'):
            find_images(tmp_path / file)


@pytest.mark.parametrize('file, folder, others', [
    ('annotations/instances_train.json', 'segmentation_images', []),
    ('annotations/instances_train.json', 'car_seg', []),
    ('annotations/train.json', 'test', []),
    ('all.json', 'images', ['images_512', 'images_small']),
    ('annotations/instances_train2017.json', 'train2017', ['train2017_small']),
    ('annotations/train.json', 'images/train', ['train/images'])])
def test_copies_and_odd_names_are_no_reason_to_refuse(tmp_path, file, folder, others):
    touch(*(tmp_path / name / '0.jpg' for name in (folder, *others)), tmp_path / file)
    (tmp_path / file).write_text('{"images": [{"file_name": "0.jpg"}]}')
    assert find_images(tmp_path / file).root == tmp_path / folder


def test_of_equally_likely_folders_the_fuller_is_taken_or_none(tmp_path):
    touch(*(tmp_path / name for name in ('a/0.jpg', 'a/1.jpg', 'b/0.jpg', 'x.json')))
    (tmp_path / 'x.json').write_text('{"images": [{"file_name": "0.jpg"}, {"file_name": "1.jpg"}]}')
    assert find_images(tmp_path / 'x.json').root == tmp_path / 'a'
    touch(tmp_path / 'b' / '1.jpg')
    with pytest.raises(UsageError, match=r"'0.jpg', which is in all of .*/a, .*/b: .*file_name"):
        find_images(tmp_path / 'x.json')


@pytest.mark.parametrize('name, content, says', [
    ('missing', None, 'no such folder'),
    ('empty/', None, r'no images in .*\.jpeg'),
    ('picture.jpg', '', 'a folder, a .txt file of paths, a COCO .json'),
    ('l.txt', '\n', 'names no images'),
    ('l.txt', 'a.jpg 0\n', 'one path a line'),
    ('l.json', '{"annotations": []}', "images"),
    ('l.json', '{"images": []}', 'empty'),
    ('l.json', '{"images": [{"id": 3}]}', 'file_name'),
    ('l.json', '[1, 2', 'not a JSON file of images'),
    ('l.json', '{"images": [{"file_name": "absent.jpg"}]}', "'absent.jpg', which is in none of"),
])
def test_what_is_no_data_set_is_said(tmp_path, name, content, says):
    if name.endswith('/'):
        (tmp_path / name).mkdir()
    elif content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=says) as error:
        find_images(tmp_path / name)
    assert str(tmp_path) in str(error.value) and '\n' not in str(error.value)
