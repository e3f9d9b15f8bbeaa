"""What a mask store says of itself may be anybody's: of the right types, or one line."""
import json

import pytest
from tar_samples import draw, masked

from densessl.cli import main
from densessl.errors import UsageError
from densessl.images.find import find_images
from densessl.images.tar_layout import MAX_MAPS
from densessl.masks.metadata import gather_marks, read_info, read_skipped
from densessl.masks.store import MaskStore

DEEP = '[' * 100_000


@pytest.fixture
def store(tmp_path):
    return masked(tmp_path / 'masks', draw(tmp_path / 'in', ['a.jpg', 'b/c.jpg']))


def change(store, **values):
    path = store.root / 'masks.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize('content', [
    '5', 'null', '[]', '"x"', '{', '', DEEP, '{"generator": ' + DEEP, b'\xff\xfe', '{}',
    '{"generator": "x", "parameters": {}, "version": 1' + '0' * 5000 + '}',
    '{"generator": "x", "parameters": ' + '{"a":' * 150 + '1' + '}' * 150 + ', "version": 1}'])
def test_what_is_no_description_is_one_line(content, store, tmp_path, capsys):
    (store.root / 'masks.json').write_bytes(
        content if isinstance(content, bytes) else content.encode())
    for words in (['make_masks', str(tmp_path / 'in'), str(store.root), '--check'],
                  ['make_shards', str(tmp_path / 'in'), str(tmp_path / 'out'), '--masks',
                   str(store.root)]):
        assert main(words) == 2
        error, = capsys.readouterr().err.strip().splitlines()
        assert 'masks.json cannot be used' in error and 'make them again' in error


@pytest.mark.parametrize('values', [
    {'generator': 5}, {'generator': ['x']}, {'generator': 'x' * 9999}, {'generator': '\x1b[2J'},
    {'parameters': None}, {'parameters': [1]}, {'version': [1]}, {'version': 10 ** 400},
    {'maps': 0}, {'maps': -1}, {'maps': 10 ** 9}, {'maps': 'many'}, {'maps': 1.5}, {'maps': True},
    {'maps': MAX_MAPS + 1}, {'images': 'all'}, {'images': -3}, {'digest': 5}, {'complete': 'yes'},
    {'complete': 1}, {'masks': {}}, {'skipped': 10 ** 30}, {'densessl': []},
])
def test_a_value_of_the_wrong_type_is_named(values, store):
    change(store, **values)
    key, = values
    with pytest.raises(UsageError, match=f'masks.json cannot be used: "{key}" is ') as error:
        MaskStore(store.root)
    assert str(error.value).isprintable() and len(str(error.value)) < 600


def test_an_unknown_generator_and_unknown_keys_are_no_reason_to_refuse(store):
    change(store, generator='of_others', version='2b', more={'a': [1]})
    assert read_info(store.root)['more'] == {'a': [1]} and MaskStore(store.root).complete
    assert MaskStore(store.root).read('a.jpg').ndim == 2


@pytest.mark.parametrize('content', ['5', '{', DEEP, '{}', '{"digest": "x", "masks": "1"}',
                                     '{"digest": "x", "masks": 1, "skipped": []}',
                                     '{"digest": "x", "masks": 1, "skipped": {"a": 5}}'])
def test_a_damaged_mark_is_one_line(content, store):
    (store.root / '.shards' / '0-of-1.json').write_text(content)
    with pytest.raises(UsageError, match=r'0-of-1\.json cannot be used: .* delete it') as error:
        gather_marks(store.root, store.info['digest'])
    assert '\n' not in str(error.value)


def test_what_else_lies_among_the_marks_is_left_aside(store):
    for name in ('a-of-b.json', '1-of-2-of-3.json', '²-of-1.json'):
        (store.root / '.shards' / name).write_text('5')
    assert len(gather_marks(store.root, store.info['digest'])) == 1


@pytest.mark.parametrize('content', [b'no tab', b'a\treason\nb', b'\xff'])
def test_a_damaged_list_of_skipped_images_is_one_line(content, store):
    (store.root / 'skipped.txt').write_bytes(content)
    with pytest.raises(UsageError, match=r'skipped\.txt is damaged'):
        read_skipped(store.root)


@pytest.mark.parametrize('masks', [5, [], {'generator': 5}, {'maps': 3}, {'maps': 10 ** 9}, None,
                                   {'generator': 'grid'}, {'generator': 'x', 'parameters': {}}])
def test_what_shards_say_of_their_masks_is_checked(masks, store, tmp_path, capsys):
    out = tmp_path / 'out'
    assert main(['make_shards', str(tmp_path / 'in'), str(out), '--masks', str(store.root)]) == 0
    info = json.loads((out / 'shards.json').read_text())
    (out / 'shards.json').write_text(json.dumps({**info, 'masks': masks}))
    capsys.readouterr()
    assert main(['make_shards', str(out), str(tmp_path / 'again')]) == 2
    error, = capsys.readouterr().err.strip().splitlines()
    assert 'cannot be used' in error and not (tmp_path / 'again').exists()


@pytest.mark.parametrize('content', ['5', '[]', '{"format": 1}', DEEP, '{"pid": "x"}',
                                     '{"host": 5, "pid": -1}', '{"failed": 5}'])
def test_a_strange_lock_does_not_stop_a_build(content, store, tmp_path, monkeypatch):
    monkeypatch.setattr('densessl.files.lock.PATIENCE', 0.3)
    (store.root / '.building-0-of-1').write_text(content)
    (store.root / 'a.png').unlink()
    assert masked(store.root, find_images(tmp_path / 'in')).has('a.jpg')
