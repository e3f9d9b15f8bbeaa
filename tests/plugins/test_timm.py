"""timm's models as backbones: timm's keys, no classifier left, any image size where possible."""
import pytest
import timm
import torch

from densessl.backbones import build_backbone, feature_maps, feature_stages
from densessl.errors import UsageError
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.translate import counterpart, translate


@pytest.mark.parametrize('name', ['resnet18', 'convnext_atto', 'vit_tiny_patch16_224',
                                  'efficientnet_b0', 'regnety_002'])
def test_keys_are_timms_own(name):
    theirs = timm.create_model(name, num_classes=0).state_dict()
    ours = build_backbone({'type': f'timm.{name}'}).state_dict()
    dropped = theirs.keys() - ours.keys()
    assert ours.keys() <= theirs.keys()
    assert all(key.startswith(('head.', 'fc_norm.', 'conv_head.', 'bn2.')) for key in dropped)


def test_the_features_are_timms():
    backbone = build_backbone({'type': 'timm.resnet18'})
    model = timm.create_model('resnet18', num_classes=0).eval()
    model.load_state_dict(backbone.state_dict())
    image = torch.randn(1, 3, 64, 64)
    assert torch.allclose(feature_maps(backbone, image)[-1], model.forward_features(image),
                          atol=1e-6)


def test_transformers_take_other_sizes():
    backbone = build_backbone({'type': 'timm.vit_tiny_patch16_224'})
    assert feature_stages(backbone, 160) == feature_stages(backbone, 224)
    assert feature_maps(backbone, torch.zeros(1, 3, 160, 128))[0].shape == (1, 192, 10, 8)


def test_translation_within_the_resnet_family_only():
    target = TRANSFER_TARGETS.get('timm')()
    state = build_backbone({'type': 'torchvision.resnet50'}).state_dict()
    model = timm.create_model('resnet50', num_classes=0)
    model.load_state_dict(translate(target, state, 'torchvision.resnet50'))   # every key
    assert counterpart(target, state, {'type': 'torchvision.resnet50'}) == {'type': 'timm.resnet50'}
    with pytest.raises(UsageError, match='no exact translation'):
        translate(target, {'features.0.weight': torch.zeros(1)}, 'torchvision.vgg11')


def test_published_weights_are_looked_for_in_its_cache_before_they_are_fetched(monkeypatch):
    asked = []

    def download(repository, file, local_files_only=False):
        asked.append(local_files_only)
        if local_files_only:
            raise FileNotFoundError('not in the cache')
        return f'{repository}/{file}'
    monkeypatch.setattr('huggingface_hub.hf_hub_download', download)
    target = TRANSFER_TARGETS.get('timm')()
    published = target.published_weights('vit_small_patch14_dinov2.lvd142m')
    assert asked == [] and published.license == 'apache-2.0'
    assert published.address.endswith('timm/vit_small_patch14_dinov2.lvd142m/resolve/main/'
                                      'model.safetensors')
    assert str(published.fetch()) == 'timm/vit_small_patch14_dinov2.lvd142m/model.safetensors'
    assert asked == [True, False]
    assert target.published_weights('coatnet_0_224') is None
