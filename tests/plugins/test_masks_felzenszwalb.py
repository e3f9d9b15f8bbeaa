"""The compiled Felzenszwalb–Huttenlocher against scikit-image's."""
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from skimage.filters import gaussian
from skimage.segmentation import felzenszwalb

from densessl.demo.scenes import draw_scene
from densessl.registry import MASK_GENERATORS

RNG = np.random.default_rng(0)


def own(image, scale, sigma, min_size):
    return MASK_GENERATORS.build(dict(type='felzenszwalb', scale=scale, sigma=sigma,
                                      min_size=min_size))(image)


def overlap(labels, others):
    """The share of pixels that are right when each region takes the region it overlaps most."""
    counts = np.zeros((labels.max() + 1, others.max() + 1), int)
    np.add.at(counts, (labels.ravel(), others.ravel()), 1)
    return counts.max(axis=1).sum() / labels.size


@pytest.mark.parametrize('scale, sigma, min_size, regions', [
    (100, 0.8, 3, (1.3, 3)), (30, 0, 1, (30, 35)), (100, 0, 4, (1.3, 9)), (400, 0.3, 1, (2, 9)),
])
def test_small_images_are_divided_exactly_as_by_scikit_image(scale, sigma, min_size, regions):
    """Where few edges have nearly equal weights, hardly anything depends on their order."""
    counts, same = [], 0
    for _ in range(100):
        image = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        expected = felzenszwalb(image, scale=scale, sigma=sigma, min_size=min_size)
        labels = own(image, scale, sigma, min_size)
        same += overlap(labels, expected) == overlap(expected, labels) == 1
        counts.append(labels.max() + 1)
    assert same >= 97
    assert regions[0] <= np.mean(counts) <= regions[1]      # and there is something to divide


def test_scenes_are_divided_nearly_as_by_scikit_image():
    agreements = []
    for seed in range(8):
        image = draw_scene(seed, size=(120, 160)).image
        expected = felzenszwalb(image, scale=100, sigma=0.8, min_size=30)
        labels = own(image, 100, 0.8, 30)
        assert labels.max() > 20
        assert abs(labels.max() - expected.max()) <= 0.15 * expected.max()
        agreements += [overlap(labels, expected), overlap(expected, labels)]
    assert min(agreements) > 0.9 and np.mean(agreements) > 0.97


@pytest.mark.parametrize('shape, sigma', [((20, 30), 0.8), ((20, 30), 0), ((20, 30), 3.3),
                                          ((3, 2), 2.0), ((1, 1), 0.8), ((1, 9), 5.0)])
def test_smoothing_is_that_of_scikit_image(shape, sigma):
    from densessl_plugins.masks.felzenszwalb_kernel import smooth
    image = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = 255 * gaussian(image, sigma=(sigma, sigma, 0), mode='reflect', channel_axis=None)
    np.testing.assert_allclose(smooth(image, sigma).transpose(1, 2, 0), expected, atol=1e-3)
    assert np.allclose(smooth(image, sigma), smooth((image / 255).astype(np.float32), sigma),
                       atol=1e-3)


def test_colors_count_from_0_to_255_whatever_the_type():
    image = draw_scene(1, size=(60, 80)).image
    for kind in (np.float32, np.float64):
        labels = own((image / 255).astype(kind), 100, 0.8, 20)
        assert overlap(labels, own(image, 100, 0.8, 20)) > 0.97


def test_regions_are_connected_and_large_enough():
    from skimage.measure import label
    labels = own(RNG.integers(0, 256, (50, 70, 3), dtype=np.uint8), 300, 0.5, 25)
    sizes = np.bincount(labels.ravel())
    assert len(sizes) > 2 and sizes.min() >= 25
    assert all(label(labels == region, connectivity=2).max() == 1 for region in range(len(sizes)))
    assert (np.diff([np.flatnonzero(labels == region)[0] for region in range(len(sizes))]) > 0
            ).all(), 'regions are numbered by their first pixel'


def test_even_ground_is_one_region():
    flat = np.full((40, 50, 3), 77, np.uint8)
    assert not own(flat, 1, 0.8, 0).any()
    flat[10:30, 10:30] = (77, 78, 77)         # the smallest difference there is
    assert len(np.unique(own(flat, 1, 0, 0))) == 2


def test_an_installation_that_cannot_be_written_to_compiles_elsewhere_or_anew(tmp_path):
    """A read-only plugin folder and a read-only home: the kernel still works."""
    import densessl_plugins.masks.felzenszwalb_kernel as kernel
    folder = tmp_path / 'installed'
    folder.mkdir()
    shutil.copy(kernel.__file__, folder / 'kernel.py')
    (folder / '__pycache__').write_text('a file, so that no folder can be made here')
    (tmp_path / 'home').write_text('nor here')
    code = ('import numpy as np, kernel; '
            'labels = kernel.felzenszwalb(np.zeros((4, 5, 3), np.uint8), 100., .8, 2); '
            'assert labels.shape == (4, 5); print("divided")')
    done = subprocess.run([sys.executable, '-c', code], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, 'HOME': str(tmp_path / 'home'), 'PYTHONPATH': '.',
                               'XDG_CACHE_HOME': str(tmp_path / 'home'), 'NUMBA_CACHE_DIR': ''})
    assert done.stdout == 'divided\n', done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ['__pycache__', 'kernel.py']


def test_threads_do_not_disturb_each_other():
    """The kernel lets other threads run, which share its code and nothing else."""
    scenes = [draw_scene(seed, size=(60, 80)).image for seed in range(6)]
    expected = [own(image, 100, 0.8, 20) for image in scenes]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: own(scenes[i % 6], 100, 0.8, 20), range(90)))
    assert all((labels == expected[i % 6]).all() for i, labels in enumerate(found))
    assert len({labels.tobytes() for labels in expected}) == 6


@pytest.mark.slow
def test_processes_that_compile_at_the_same_time_leave_good_code(tmp_path):
    """As the workers of a first build do; those of the next build compile nothing."""
    code = ('import numpy as np, densessl_plugins.masks.felzenszwalb_kernel as k; '
            'image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8); '
            'labels = k.felzenszwalb(image, 100., .8, 2); '
            'print(labels.sum(), *(sum(f.stats.cache_misses.values()) '
            'for f in (k._edge_bins, k._segment)))')
    environment = {**os.environ, 'NUMBA_CACHE_DIR': str(tmp_path)}

    def start():
        return subprocess.Popen([sys.executable, '-c', code], env=environment, text=True,
                                stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    first = [start() for _ in range(3)]
    printed = [process.communicate(timeout=300)[0].split() for process in first]
    again = start().communicate(timeout=300)[0].split()
    assert '1' in {word for words in printed for word in words[1:]}, 'nobody compiled'
    assert again == [printed[0][0], '0', '0'] and len({words[0] for words in printed}) == 1


def test_listing_the_generators_imports_no_compiler():
    code = ('import sys; from densessl.registry import MASK_GENERATORS as m; '
            'm.build(dict(type="felzenszwalb")); '
            'heavy = {"numba", "skimage", "scipy.ndimage", "pycocotools", "tifffile"}; '
            'print(sorted(heavy & set(sys.modules)))')
    others = 'byol,detcon,moco,simclr,supervised,timm,torchvision,mmseg,mmdet,pretext'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          cwd=Path(__file__).parents[2],
                          env={**os.environ, 'DENSESSL_DISABLE_PLUGINS': others})
    assert done.stdout == '[]\n', done.stdout + done.stderr


@pytest.mark.parametrize('image', [
    np.zeros((4, 5), np.uint8), np.zeros((4, 5, 4), np.uint8), np.zeros((0, 5, 3), np.uint8),
    np.zeros((4, 5, 3), np.int32), np.full((4, 5, 3), np.nan)])
def test_the_kernel_takes_no_other_images(image):
    from densessl_plugins.masks.felzenszwalb_kernel import felzenszwalb
    with pytest.raises(ValueError, match=r'must be \(H, W, 3\)'):
        felzenszwalb(image, 100.0, 0.8, 10)
