"""torchvision's models as backbones: the library's own keys and the library's own features."""
import pytest
import torch
import torchvision

from densessl.backbones import build_backbone, feature_maps
from densessl.errors import UsageError
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.translate import counterpart, translate

HEADS = ('fc.', 'classifier.', 'head.', 'heads.')


@pytest.fixture
def target():
    return TRANSFER_TARGETS.get('torchvision')()


@pytest.mark.parametrize('name', ['resnet18', 'resnext50_32x4d', 'convnext_tiny', 'swin_t',
                                  'vit_b_32', 'efficientnet_b0', 'regnet_y_400mf',
                                  'shufflenet_v2_x0_5', 'mnasnet0_5'])
def test_keys_are_torchvisions_without_the_classifier(name):
    theirs = torchvision.models.get_model(name).state_dict()
    expected = {key for key in theirs if not key.startswith(HEADS)}
    assert set(build_backbone({'type': f'torchvision.{name}'}).state_dict()) == expected


def test_the_features_are_those_the_classifier_sees():
    backbone = build_backbone({'type': 'torchvision.resnet18'})
    model = torchvision.models.resnet18().eval()
    model.load_state_dict(backbone.state_dict(), strict=False)
    seen = []
    model.fc.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    image = torch.randn(1, 3, 64, 64)
    model(image)
    assert torch.allclose(feature_maps(backbone, image)[-1].mean((2, 3)), seen[0], atol=1e-6)


def test_swins_last_map_is_normalized_as_in_the_model():
    backbone = build_backbone({'type': 'torchvision.swin_t'})
    model = torchvision.models.swin_t().eval()
    model.load_state_dict(backbone.state_dict(), strict=False)
    image = torch.randn(1, 3, 64, 64)
    expected = model.permute(model.norm(model.features(image)))
    assert torch.allclose(feature_maps(backbone, image)[-1], expected, atol=1e-6)


def test_a_vit_lays_its_tokens_out_row_by_row_and_takes_other_sizes():
    backbone = build_backbone({'type': 'torchvision.vit_b_32'})
    model = torchvision.models.vit_b_32().eval()
    model.load_state_dict(backbone.state_dict(), strict=False)
    image = torch.randn(1, 3, 224, 224)
    tokens = torch.cat([model.class_token, model._process_input(image)], 1)
    tokens = model.encoder(tokens)[0, 1:]                                     # (49, C)
    map_, = feature_maps(backbone, image)
    assert torch.allclose(map_[0, :, 2, 5], tokens[2 * 7 + 5], atol=1e-5)
    assert feature_maps(backbone, image[..., :160, :128])[0].shape == (1, 768, 5, 4)


def test_arguments_reach_the_model():
    backbone = build_backbone({'type': 'torchvision.resnet18', 'zero_init_residual': True})
    assert not backbone.layer1[0].bn2.weight.any()


def test_plain_resnets_of_other_libraries_translate_and_others_do_not(target):
    state = build_backbone({'type': 'timm.resnet18'}).state_dict()
    assert translate(target, state, 'timm.resnet18').keys() == state.keys()
    assert counterpart(target, state, {'type': 'timm.resnet18'}) == {'type': 'torchvision.resnet18'}
    for kind, why in (('timm.resnet18d', 'builds no ResNets with a deep stem'),
                      ('timm.convnext_atto', 'builds no ConvNeXts of this kind'),
                      ('timm.regnetx_002', 'possible are torchvision backbones')):
        with pytest.raises(UsageError, match=f'no exact translation .* {why}'):
            translate(target, build_backbone({'type': kind}).state_dict(), kind)


def test_published_weights_are_looked_for_in_its_cache_before_they_are_fetched(tmp_path,
                                                                              monkeypatch):
    monkeypatch.setattr('torch.hub.get_dir', lambda: str(tmp_path))
    fetched = []
    monkeypatch.setattr('torch.hub.download_url_to_file',
                        lambda *arguments: fetched.append(arguments))
    published = TRANSFER_TARGETS.get('torchvision')().published_weights('resnet18')
    path = tmp_path / 'checkpoints' / published.address.rpartition('/')[2]
    assert published.fetch() == path
    (address, file, digest), = fetched
    assert (address, file) == (published.address, str(path)) and f'-{digest}.pth' in path.name
    path.touch()
    assert published.fetch() == path and len(fetched) == 1
