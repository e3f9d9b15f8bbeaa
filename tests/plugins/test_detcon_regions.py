"""DetCon trains from the regions of every installed mask generator."""
from __future__ import annotations

from itertools import islice

import pytest
import torch
from mmengine.optim import OptimWrapper

from densessl.demo.sample import write_scenes
from densessl.images.find import find_images
from densessl.masks.generator import make_masks, store_for_training
from densessl.plugins import load_plugins, name_of
from densessl.registry import MASK_GENERATORS, METHODS
from densessl.views.dataset import ViewDataset, build_loader
from densessl.views.view import AugmentedView

GENERATORS = [name_of(generator) for plugin in load_plugins()
              for generator in plugin.provides.get('mask_generators', [])]
SMALL = {'felzenszwalb': dict(scale=100, min_size=40), 'slic': dict(n_segments=9),
         'felzenszwalb_skimage': dict(scale=100, min_size=40),
         'multiscale_felzenszwalb': dict(scales=[50, 100], min_size=40)}    # for small pictures
REGIONS = {'whole_image': (1, 1), 'grid': (16, 16)}     # else at least 2


@pytest.fixture(scope='module')
def sample(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp('sample'), unlabelled=0, train=4, val=0,
                        size=(96, 128))


def parameters(name, sample):
    """What the generator `name` needs to know, or would otherwise find no regions with."""
    return SMALL.get(name) or {
        'label_maps': dict(folder=str(sample / 'labels' / 'train')),
        'coco': dict(annotations=str(sample / 'annotations' / 'instances_train.json')),
    }.get(name, {})


@pytest.mark.parametrize('name', GENERATORS)
def test_detcon_trains_from_the_regions_of(name, sample, tmp_path):
    torch.manual_seed(0)
    images = find_images(sample / 'images' / 'train')
    generator = MASK_GENERATORS.build({'type': name, **parameters(name, sample)})
    make_masks(images, tmp_path / 'masks', generator, workers=1, progress=False)
    store, kept = store_for_training(images, {'store': str(tmp_path / 'masks')}, is_builder=False)
    counts = [int(store.read(kept.name(i)).max()) + 1 for i in range(len(kept))]
    low, high = REGIONS.get(name, (2, 96 * 128))
    assert len(kept) == 4 and low <= min(counts) <= max(counts) <= high

    views = [AugmentedView(size=64, area=(0.4, 1.0))] * 2
    loader = build_loader(ViewDataset(kept, store, views), batch_size=4, num_workers=0)
    method = METHODS.build(dict(
        type='detcon', backbone=dict(type='torchvision.resnet18'), num_regions=4,
        projection=(32, 16), data_preprocessor=dict(
            type='densessl.ViewPreprocessor', mean=(124, 116, 104), std=(58, 57, 57))))
    method.init_weights()
    method.train()
    before = {key: value.clone() for key, value in method.named_parameters()}
    optimizer = OptimWrapper(torch.optim.SGD(
        [p for p in method.parameters() if p.requires_grad], lr=0.01))
    for batch in islice(loader, 2):
        assert len(batch['mask']) == 2 and batch['regions'] <= max(counts)
        assert torch.isfinite(method.train_step(batch, optimizer)['loss'])
    for key, parameter in method.named_parameters():
        assert torch.isfinite(parameter).all(), key
        if key.startswith('backbone.') and key.endswith('conv1.weight'):
            assert not torch.equal(parameter, before[key]), f'{key} has not moved'
