"""`densessl views`: a sheet for methods with masks and without, and its refusals."""
from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from densessl.cli import main
from densessl.config import load_config
from densessl.demo.sample import write_scenes
from densessl.images.find import find_images
from densessl.masks.build import make_masks
from densessl.masks.find import cache_folder
from densessl.masks.store import MaskStore
from densessl.pixels.decode import read_image
from densessl.pixels.normalization import normalize
from densessl.registry import MASK_GENERATORS
from densessl.shards.write import make_shards
from densessl.training import view_sheet
from densessl.training.view_sheet import crops_of, seen
from densessl.views.collate import collate
from densessl.views.dataset import ViewDataset
from densessl.views.photometry import ViewPreprocessor
from densessl.views.photometry_draw import parameters
from densessl.views.view import AugmentedView

ROW = view_sheet.SIDE + view_sheet.STRIP + 8      # 8: the gap between tiles


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp('views'), unlabelled=4, train=1, val=1,
                        size=(80, 96)) / 'unlabelled'


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv('DENSESSL_CACHE', str(tmp_path / 'cache'))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize('config', ['small/detcon_r18', 'small/simclr_r18'])
def test_sheet_has_a_row_a_sample_and_is_the_same_again(config, scenes, tmp_path, capsys):
    command = ['views', config, '--data', str(scenes), '-n', '3', '--out']
    assert main([*command, 'one.png']) == 0
    assert main([*command, 'two.png']) == 0
    assert main([*command, 'three.png', '--seed', '1']) == 0
    assert 'one.png: the first 3 samples of a run' in capsys.readouterr().out
    one, two, three = (cv2.imread(f'{name}.png') for name in ('one', 'two', 'three'))
    assert one.shape[0] == 3 * ROW and one.std() > 20
    assert np.array_equal(one, two) and not np.array_equal(one, three)
    assert not (tmp_path / 'cache').exists(), 'a picture builds no mask store'


def test_a_picture_of_one_row_has_its_place_on_the_sheet(tmp_path):
    (tmp_path / 'rows').mkdir()
    for i in range(2):
        cv2.imwrite(f'rows/{i}.png', np.full((1, 4000, 3), 90, np.uint8))
    assert main(['views', 'small/simclr_r18', '--data', 'rows', '-n', '1', '--out', 'x.png']) == 0


def test_views_on_the_sheet_are_those_of_training(scenes, monkeypatch):
    """Panels show the pixels and region outlines of the run's first samples, in their order."""
    shown = []
    draw_regions = view_sheet.figures.draw_regions

    def spy(image, labels, *colors, lines, **given):
        if lines == 'inside':
            shown.append((image, labels))
        return draw_regions(image, labels, *colors, lines=lines, **given)
    monkeypatch.setattr(view_sheet.figures, 'draw_regions', spy)
    assert main(['views', 'small/detcon_r18', '--data', str(scenes), '-n', '2']) == 0
    cfg = load_config('small/detcon_r18')
    images = find_images(scenes)
    make_masks(images, 'masks', MASK_GENERATORS.build(cfg.masks.to_dict()))
    dataset = ViewDataset(images, MaskStore('masks').of(images),
                          [AugmentedView(**v) for v in cfg.views], seed=cfg.seed,
                          uniforms=cfg.uniforms)
    order = np.random.default_rng((cfg.seed, 0)).permutation(len(images))
    preprocessor = ViewPreprocessor(**cfg.normalization)
    expected = [(seen(view.image[0], preprocessor), view.mask[0].numpy()) for n in range(2)
                for view in preprocessor(collate([dataset[(n, int(order[n]))]]))['views']]
    assert len(shown) == len(expected) == 4
    for (pixels, labels), (their_pixels, their_labels) in zip(shown, expected, strict=True):
        assert np.array_equal(pixels, their_pixels) and np.array_equal(labels, their_labels)


@pytest.mark.parametrize('config, patches', [('small/jigsaw_r18', 9), ('small/cpc_r18', 25),
                                             ('small/relative_location_r18', 9)])
def test_a_view_of_patches_is_drawn_as_the_network_gets_it(config, patches, scenes, monkeypatch):
    """The patches of the run's first sample, row by row, in the one panel beside the image."""
    panels = []
    captioned = view_sheet._captioned
    monkeypatch.setattr(view_sheet, '_captioned',
                        lambda *args: panels.append(args) or captioned(*args))
    assert main(['views', config, '--data', str(scenes), '-n', '1']) == 0
    cfg, images = load_config(config), find_images(scenes)
    index = int(np.random.default_rng((cfg.seed, 0)).permutation(len(images))[0])
    dataset = view_sheet.dataset_of(cfg, images, None)
    preprocessor = ViewPreprocessor(**cfg.normalization)
    view, = preprocessor(collate([dataset[(0, index)]]))['views']
    expected = seen(view.image[0], preprocessor)                           # (T, S, S, 3)
    assert len(expected) == patches
    (_, name, _), (grid, _, _) = panels
    assert name == images.name(index)
    step, columns = view.image.shape[-1] + 8, round(patches ** 0.5)
    for i, patch in enumerate(expected):
        top, left = step * (i // columns), step * (i % columns)
        assert np.array_equal(grid[top:top + step - 8, left:left + step - 8], patch), i
    assert cv2.imread('views.jpg').shape[0] == ROW


@pytest.mark.parametrize('config', ['small/detcon_r18', 'small/simclr_r18'])
def test_a_broken_image_is_shown_by_the_one_in_its_place(config, scenes, monkeypatch, capsys):
    shutil.copytree(scenes, 'in')
    names = sorted(path.name for path in Path('in').iterdir())
    Path('in', names[1]).write_bytes(b'')
    Path('in', names[2]).write_bytes(Path('in', names[2]).read_bytes()[:400])
    panels = []
    captioned = view_sheet._captioned
    monkeypatch.setattr(view_sheet, '_captioned',
                        lambda *args: panels.append(args) or captioned(*args))
    assert main(['views', config, '--data', 'in']) == 0
    words = [caption for _, caption, color in panels if color is None]
    assert sorted(words) == [names[0], names[3], *(
        f'{names[3]} for {name}, which cannot be read' for name in names[1:3])]
    assert f'{names[1]}' in (err := capsys.readouterr().err) and 'takes its place' in err
    for name in names:
        Path('in', name).write_bytes(b'')
    assert main(['views', config, '--data', 'in']) == 2
    assert 'images cannot be read' in capsys.readouterr().err


def test_a_given_store_is_read(scenes, capsys):
    make_masks(find_images(scenes), 'masks', MASK_GENERATORS.build(dict(type='grid', rows=2)))
    arguments = ['views', 'small/detcon_r18', '--data', str(scenes), '-n', '1', '--out']
    assert main([*arguments, 'a.png', '--masks', 'masks']) == 0
    assert main([*arguments, 'b.png']) == 0
    assert not np.array_equal(cv2.imread('a.png'), cv2.imread('b.png'))


def test_a_store_that_training_refuses_is_not_shown(scenes, capsys):
    make_masks(find_images(scenes), 'masks', MASK_GENERATORS.build(dict(type='grid', rows=2)))
    assert main(['views', 'small/detcon_r18', '--data', str(scenes), '-n', '1', '--cfg-options',
                 'masks.store=masks']) == 2
    assert 'the masks in' in (error := capsys.readouterr().err) and 'were made with grid' in error


def test_no_mask_is_shown_on_an_image_that_has_changed_since(scenes, tmp_path, capsys):
    images = tmp_path / 'own'
    shutil.copytree(scenes, images)
    arguments = ['views', 'small/detcon_r18', '--data', str(images), '--out']
    cfg = load_config('small/detcon_r18')
    generator = MASK_GENERATORS.build(cfg.masks.to_dict())
    make_masks(find_images(images), cache_folder(find_images(images), generator), generator)
    make_masks(find_images(images), 'masks', generator)
    cv2.imwrite(str(images / '00000.jpg'), np.zeros((60, 90, 3), np.uint8))
    assert main([*arguments, 'a.png', '--masks', 'masks']) == 2
    said = capsys.readouterr().err
    assert '1 of 4 images, or' in said and 'have changed since their masks in' in said
    assert main([*arguments, 'a.png']) == 0       # the others are read from the cache
    make_masks(find_images(images), 'masks', generator)
    assert main([*arguments, 'b.png', '--masks', 'masks']) == 0
    assert np.array_equal(cv2.imread('a.png'), cv2.imread('b.png'))


def test_the_sheet_of_tar_shards_is_that_of_their_files(scenes):
    cfg, data = load_config('small/detcon_r18'), ['views', 'small/detcon_r18', '-n', '2', '--data']
    make_masks(find_images(scenes), 'masks', MASK_GENERATORS.build(cfg.masks.to_dict()))
    make_shards(find_images(scenes), 'shards', masks='masks', progress=False)
    assert main([*data, str(scenes), '--masks', 'masks', '--out', 'files.png']) == 0
    for masks in (['--masks', 'shards'], ['--masks', 'masks'], []):
        assert main([*data, 'shards', *masks, '--out', 'shards.png']) == 0
        assert np.array_equal(cv2.imread('files.png'), cv2.imread('shards.png')), masks


def test_frames_are_the_crops_when_an_image_has_several_label_maps(scenes):
    """Which of the maps is taken is drawn before the crops."""
    images = find_images(scenes)

    class Two:
        maps = 2

        def read(self, i, which):
            return np.full(images.size(i), which, np.uint8)
    dataset = ViewDataset(images, Two(), [AugmentedView(size=32, flip=0.0)] * 2)
    for n in range(4):
        sample = dataset[(n, n)]
        image = read_image(images.path(n))
        for view, (top, left, height, width), cut in zip(
                dataset.views, crops_of(dataset, (n, n)), sample['image'], strict=True):
            assert np.array_equal(view.cut(image, (top, left, height, width), False), cut)
        assert (sample['mask'][0] == dataset.draw(n)[1]).all()


def test_patches_are_drawn_as_a_grid():
    image = torch.arange(5).view(5, 1, 1, 1).expand(5, 3, 4, 4).float()     # (T, 3, H, W)
    preprocessor = ViewPreprocessor(mean=(0, 0, 0), std=(10, 10, 10))
    grid = view_sheet._tiled(seen(image, preprocessor))
    assert grid.shape == (2 * 12 - 8, 3 * 12 - 8, 3)                        # 8: gaps
    assert grid[0, [0, 12, 24], 0].tolist() == [0, 10, 20] and grid[12, 12, 0] == 40
    assert (grid[12:, 24:] == view_sheet.GROUND).all(), 'five patches leave the sixth place empty'
    assert (grid[:, 4:12] == view_sheet.GROUND).all(), 'white patches would end nowhere on white'


@pytest.mark.parametrize('order', ['RGB', 'BGR'])
def test_views_are_shown_in_their_own_colors_whatever_order_the_network_takes(order):
    facts = dict(mean=(10.0, 20.0, 30.0), std=(50.0, 60.0, 70.0), channel_order=order)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    image = normalize(torch.from_numpy(pixels).movedim(-1, 0), facts)
    np.testing.assert_array_equal(seen(image, ViewPreprocessor(**facts)), pixels)


def test_words_name_what_changes_a_pixel():
    rng = np.random.default_rng(0)
    row = parameters(rng, jitter=dict(p=1.0, brightness=0.4, hue=0.1), gray=1.0,
                     blur=dict(p=1.0, sigma=(1.0, 1.0)), solarize=dict(p=1.0))
    assert view_sheet.described(torch.from_numpy(row)) == (
        f'b {row[0]:.2f} c 1.00 s 1.00 h {row[3]:+.2f} gray blur 1.0 solarized')
    assert view_sheet.described(torch.from_numpy(parameters(rng))) == ''
    row = parameters(rng, jitter=dict(p=1.0, brightness=0.4), style='tensorflow')
    assert view_sheet.described(torch.from_numpy(row)).startswith(f'b {row[0]:+.2f} added c 1.00')


@pytest.mark.parametrize('arguments, message', [
    (['nosuch'], "no config 'nosuch'"),
    (['small/detcon_r18'], 'no images: give any folder'),
    (['small/detcon_r18', '--data', 'nowhere'], "no images at 'nowhere'"),
    (['small/detcon_r18', '--data', '{scenes}', '-n', '0'], 'at least 1, not 0'),
    (['small/detcon_r18', '--data', '{scenes}', '--out', 'a.gif'], 'must end in .jpg or .png'),
    (['small/detcon_r18', '--data', '{scenes}', '--masks', '{scenes}'], 'is not a mask store'),
])
def test_bad_input_gets_one_line(arguments, message, scenes, capsys):
    assert main(['views', *(word.format(scenes=scenes) for word in arguments)]) == 2
    error, = capsys.readouterr().err.strip().splitlines()
    assert error.startswith('densessl views: ') and message in error


def test_a_tilde_in_a_config_is_the_home_folder(scenes, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(scenes.parent))
    assert main(['views', 'small/simclr_r18', '--data', f'~/{scenes.name}', '-n', '1', '--out',
                 str(tmp_path / 'v.png')]) == 0
