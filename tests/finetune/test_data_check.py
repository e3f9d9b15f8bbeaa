"""The pass before training and `densessl check`: faults are found by file, sound data is left
alone, and what was seen is remembered."""
import json
import os
import shlex
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image
from planted_faults import FAULTS, LAYOUTS, as_jpeg, change, draw, plant, run_check, turn

from densessl.cli import main
from densessl.errors import UsageError
from densessl.finetune.downstream_config import read_downstream_config
from densessl.finetune.labelled_data import inspect_labelled
from densessl.labels import file_facts
from densessl.labels.data_check import check_data
from densessl.labels.file_facts import open_files
from densessl.labels.pixel_labels import PixelData, find_pixel_labels, label_reports

TWIN = 'downstream/fcn_r18_folder'
CONFIGS = {'folder': TWIN, 'voc': 'downstream/fcn_r18_voc12aug',
           'cityscapes': 'downstream/fcn_r18_cityscapes'}
SHARED = Path(__file__).parents[3] / 'shared/data'


def checked(root, config=TWIN, options=None):
    cfg, target = read_downstream_config(config, options)
    target.set_data(cfg, str(root))
    return check_data(inspect_labelled(cfg, target)[0], progress=False)


# -- what is found --------------------------------------------------------------------------------

@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_planted_fault_is_found_by_file(layout, classes, tmp_path, capsys):
    pairs = draw(tmp_path, layout, len(FAULTS) + 1)
    if layout == 'folder':
        (tmp_path / 'classes.json').write_text(classes)
    code, said, _ = run_check(CONFIGS[layout], tmp_path, capsys)
    assert (code, said[-1]) == (0, f'{2 * len(FAULTS) + 6} files were opened: all of them can be '
                                   f'used')
    planted = plant(pairs[:-1])
    code, said, error = run_check(CONFIGS[layout], tmp_path, capsys)
    missed = [name for name, paths, word in planted if not any(
        line.startswith(path) and word in line for path in paths for line in said)]
    assert (code, missed) == (2, [])
    assert error[-1].startswith(f'densessl check: {len(FAULTS)} faults')
    sound = {str(path) for path in pairs[-1]}
    assert not any(line.startswith(tuple(sound)) for line in said)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_the_probe_finds_them_too(layout, classes, tmp_path, capsys):
    pairs = draw(tmp_path, layout, len(FAULTS) + 1)
    if layout == 'folder':
        (tmp_path / 'classes.json').write_text(classes)
    planted = plant(pairs[:-1])
    found = check_data(label_reports(find_pixel_labels(tmp_path)), progress=False)
    said = [str(one) for one in (*found.faults, *found.doubtful)]
    if layout != 'folder':      # there, a map without an image is a finding of the report
        assert len(said) >= len(FAULTS) - 1
    assert [name for name, paths, word in planted if name != 'no image' and not any(
        line.startswith(path) and word in line for path in paths for line in said)] == []
    assert main(['probe', 'random', '--backbone-type', 'torchvision.resnet18', '--data',
                 str(tmp_path), '--out', str(tmp_path / 'out.json'), '--workers', '0']) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 + 5 + 1 and lines[-1].strip().startswith('and ')
    assert not (tmp_path / 'out.json').exists()


def test_maps_without_an_image_and_hidden_files(classes, tmp_path, capsys):
    (image, label), *_ = draw(tmp_path, 'folder', 2)
    (tmp_path / 'classes.json').write_text(classes)
    for path in (image, label):
        copies = path.parent / '.ipynb_checkpoints'
        copies.mkdir()
        (copies / path.name).write_text('a copy that a notebook keeps')
        (path.parent / f'._{path.name}').write_text('of another system')
    assert run_check(TWIN, tmp_path, capsys)[0] == 0
    shutil.copy(label, label.with_name('lost.png'))
    code, said, _ = run_check(TWIN, tmp_path, capsys)
    assert code == 2
    assert f'{label.with_name("lost.png")} has no image' in said
    strays = label_reports(find_pixel_labels(tmp_path))[0].of_kind('unusable')
    assert [one.files for one in strays] == [(str(label.with_name('lost.png')),)]


def test_a_map_of_the_displayed_photo_is_right(tmp_path):
    pairs = draw(tmp_path, 'folder', 4)
    for orientation, (image, label) in zip((3, 6, 8), pairs, strict=False):
        turn(image, orientation)
        if orientation > 4:
            change(label, np.transpose)
    assert checked(tmp_path).faults == []
    item = PixelData(find_pixel_labels(tmp_path), 'train', 32, 32, False)[1]
    assert item[1].shape == (56, 40)


def test_palette_and_one_bit_maps_are_maps(tmp_path):
    pairs = draw(tmp_path, 'folder', 2)
    for _, label in pairs:
        ids = Image.open(label).convert('P')
        ids.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0] + [0] * 759)
        ids.save(label)
    found = checked(tmp_path)
    assert found.faults == [] and found.pixels['train'][1] == 2 * 12 * 22
    (tmp_path / 'classes.json').write_text('{"classes": ["ground", "crack"]}')
    for path in (tmp_path / 'labels').rglob('*.png'):
        Image.fromarray(np.arange(40 * 56).reshape(40, 56) % 4 == 0).save(path)
    assert checked(tmp_path).pixels['train'] == {0: 2 * 1680, 1: 2 * 560}


@pytest.mark.parametrize(('planted', 'shown', 'top'), [
    ({'train_03': {2: 200}}, {'train_03': '200'}, 2),
    ({'train_03': {2: 77}, 'val_01': {1: 90}}, {'train_03': '77', 'val_01': '90'}, 2),
    ({'train_03': {2: 3}}, {}, 2),                     # a class that is rare
    ({'train_03': {1: 3, 2: 4}, 'val_00': {2: 40}}, {'val_00': '40'}, 4),
    ({name: {2: 200} for name in ('train_03', 'train_04')}, {}, 2),
])
def test_an_id_far_above_the_others_in_hardly_any_map_is_named(planted, shown, top, tmp_path,
                                                               capsys):
    """Without classes.json the ids that occur are the classes, a wrong one among them."""
    draw(tmp_path, 'folder', 12, 3)
    for name, changed in planted.items():
        table = np.arange(256, dtype=np.uint8)
        table[list(changed)] = list(changed.values())
        change(tmp_path / 'labels' / name.split('_')[0] / f'{name}.png', table.__getitem__)
    code, said, _ = run_check(TWIN, tmp_path, capsys)
    named = {Path(line.split()[0]).stem: line for line in said if ' holds id ' in line}
    assert code == (2 if shown else 0) and set(named) == set(shown)
    for name, ids in shown.items():
        assert f'holds id {ids}, above those of the other label maps (at most {top}): ' in (
            named[name])
        assert f'labels.ignore={ids}' in named[name]
    found = checked(tmp_path)
    assert found.faults == [] and len(found.warnings()) == len(shown)      # a run goes on
    pixels = check_data(label_reports(find_pixel_labels(tmp_path)), progress=False)
    assert {Path(one.path).stem for one in pixels.doubtful} == set(shown)
    assert all('--ignore ' in one.words for one in pixels.doubtful)
    (tmp_path / 'classes.json').write_text(json.dumps({'classes': [f'c{i}' for i in range(255)]}))
    assert run_check(TWIN, tmp_path, capsys)[0] == 0


def test_a_picture_among_the_label_maps_is_named_in_one_line(tmp_path):
    picture, *_ = [label for _, label in draw(tmp_path, 'folder', 12)]
    change(picture, lambda ids: (np.arange(ids.size).reshape(ids.shape) % 250).astype(np.uint8))
    (found,) = checked(tmp_path).doubtful
    assert found.path == str(picture) and found.words.startswith('holds id 4, 5, 6, 7, 8, …, above')


def test_ids_are_told_as_they_are(tmp_path):
    label = draw(tmp_path, 'folder', 2)[0][1]
    change(label, lambda ids: ids.clip(0, 2).astype(np.uint16) + 1000)
    assert [fault.words for fault in checked(tmp_path).faults if 'from 1000 to 1002' in fault.words]


# -- masks in black and white ---------------------------------------------------------------------

@pytest.fixture(params=['with names', 'without'])
def black_and_white(request, tmp_path):
    draw(tmp_path, 'folder', 4)
    for path in (tmp_path / 'labels').rglob('*.png'):
        change(path, lambda v: np.where(v == 1, 255, 0).astype(np.uint8))
    if request.param == 'with names':
        (tmp_path / 'classes.json').write_text('{"classes": ["ground", "crack"]}')
    return tmp_path


def test_the_hint_for_black_and_white_masks_mends_them(black_and_white, capsys):
    code, said, error = run_check(TWIN, black_and_white, capsys)
    assert code == 2
    hint = next(line for line in [*said, *error] if 'labels.map' in line)
    options = shlex.split(hint[hint.index('--cfg-options'):])
    code, said, _ = run_check(TWIN, black_and_white, capsys, *options)
    assert code == 0 and '11.8 %' in next(line for line in said if line.startswith('train: ')
                                          and '%' in line)
    cfg, target = read_downstream_config(TWIN, {'labels.map': [[255, 1]]})
    target.set_data(cfg, str(black_and_white))
    with DefaultScope.overwrite_default_scope('mmseg'):
        data = DATASETS.build(cfg.val_dataloader.dataset)
        ids = data[0]['data_samples'].gt_sem_seg.data
    assert (cfg.model.decode_head.num_classes, data.metainfo['classes'][1]) in (
        (2, 'crack'), (2, 'class 1'))
    assert sorted(ids.unique().tolist()) == [0, 1] and int((ids == 1).sum()) == 12 * 22


def test_the_probe_has_a_hint_that_works_too(black_and_white, tmp_path, capsys):
    command = ['probe', 'random', '--backbone-type', 'torchvision.resnet18', '--data',
               str(black_and_white), '--out', str(tmp_path / 'out.json'), '--workers', '0',
               '--size', '64']
    assert main(command) == 2
    assert '--map 255=1' in capsys.readouterr().err
    assert main([*command, '--map', '255=1']) == 0
    assert len(json.loads((tmp_path / 'out.json').read_text())['results'][0]['iou']) == 2
    with pytest.raises(SystemExit, match='2'):
        main([*command, '--map', '255:1'])
    assert '255:1: ID=ID is needed' in capsys.readouterr().err


@pytest.mark.parametrize('value', [
    [[255, 300]], [['a', 1]], [[-1, 0]], [[0, 1], [0, 2]], [255, 1], 255, 'a=1'])
def test_a_map_of_ids_is_checked(value, tmp_path):
    draw(tmp_path, 'folder', 2)
    cfg, target = read_downstream_config(TWIN, {'labels.map': value})
    with pytest.raises(UsageError, match=r'labels\.map must be pairs of ids from 0 to 255'):
        target.set_data(cfg, str(tmp_path))


def test_a_part_without_any_label_is_refused(tmp_path):
    draw(tmp_path, 'folder', 4)
    for path in (tmp_path / 'labels/val').iterdir():
        change(path, lambda v: np.full_like(v, 255))
    faults = checked(tmp_path).faults
    assert len(faults) == 1 and 'as none of the label maps for val has' in faults[0].words


# -- memory ---------------------------------------------------------------------------------------

@pytest.fixture
def opened(monkeypatch):
    """The files that were really opened."""
    paths = []
    real = file_facts.open_file
    monkeypatch.setattr(file_facts, 'open_file', lambda path, *given: (
        paths.append(Path(path).name), real(path, *given))[1])
    return paths


def test_a_file_is_opened_again_when_it_is_another(tmp_path, opened):
    (image, label), _ = draw(tmp_path / 'data', 'folder', 2)
    first = checked(tmp_path / 'data')
    assert len(opened) == 8
    opened.clear()
    assert checked(tmp_path / 'data').pixels == first.pixels and opened == []
    change(label, lambda v: np.where(v == 1, 2, v))
    assert checked(tmp_path / 'data').pixels != first.pixels and opened == [label.name]
    opened.clear()
    state = os.stat(image)
    image.write_bytes(bytes(state.st_size))
    os.utime(image, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    for _ in range(2):        # what cannot be used is opened each time
        assert [fault.path for fault in checked(tmp_path / 'data').faults] == [str(image)]
    assert opened == [image.name] * 2


def test_a_memory_that_is_damaged_is_made_anew(tmp_path, opened, monkeypatch, capsys):
    (image, _), *_ = draw(tmp_path / 'data', 'folder', 2)
    monkeypatch.setattr(file_facts, 'cache_root', lambda: tmp_path / 'cache')
    asked = [(str(image), 'image')]
    facts = open_files(asked)
    kept, = (tmp_path / 'cache/opened').iterdir()
    kept.write_text(kept.read_text().replace('40', '41'))
    assert open_files(asked) == facts and len(opened) == 2
    assert open_files(asked) == facts and len(opened) == 2
    assert open_files([(str(image), 'map')])[str(image)].wrong and len(opened) == 3
    monkeypatch.setattr(file_facts, 'cache_root', lambda: image)
    assert open_files(asked) == facts
    assert 'opened again the next time' in capsys.readouterr().err


@pytest.mark.parametrize(('data', 'config', 'options', 'files'), [
    ('camvid', TWIN, ['--cfg-options', 'labels.ignore=11'], 2 * (367 + 101)),
])
def test_real_data_is_sound_and_known_the_second_time(data, config, options, files, capsys):
    if not (SHARED / data).is_dir():
        pytest.skip(f'needs the shared data ({data})')
    for _ in range(2):
        code, said, _ = run_check(config, SHARED / data, capsys, *options)
        assert (code, said[-1]) == (0, f'{files} files were opened: all of them can be used')
    cfg, target = read_downstream_config(config, {'labels.ignore': 11})
    target.set_data(cfg, str(SHARED / data))
    reports, _ = inspect_labelled(cfg, target)
    started = time.perf_counter()
    check_data(reports)
    assert time.perf_counter() - started < 1


def test_a_jpeg_of_a_map_is_refused_where_masks_are_made_of_it(tmp_path):
    from densessl.registry import MASK_GENERATORS
    (image, label), *_ = draw(tmp_path, 'folder', 1)
    generator = MASK_GENERATORS.build({'type': 'label_maps', 'folder': str(label.parent)})
    assert generator.for_image(image.name, None).max() == 3
    as_jpeg(label)
    with pytest.raises(ValueError, match='is a JPEG, whose compression changes the ids'):
        generator.for_image(image.name, None)
