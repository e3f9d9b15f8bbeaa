"""ResNets of 2× and 4× width."""
from __future__ import annotations

import pytest
import torch

from densessl.backbones import build_backbone, feature_stages
from densessl.errors import UsageError


@pytest.mark.parametrize('width', [2, 4])
def test_every_layer_is_wider(width):
    narrow = build_backbone(dict(type='torchvision.resnet50'))
    wide = build_backbone(dict(type='torchvision.resnet50', width=width))
    assert [s.channels for s in feature_stages(wide, 64)] == [width * s.channels
                                                          for s in feature_stages(narrow, 64)]
    state, other = narrow.state_dict(), wide.state_dict()
    assert state.keys() == other.keys()
    assert other['conv1.weight'].shape == (64 * width, 3, 7, 7)


def test_weights_are_initialized_as_torchvision_does():
    torch.manual_seed(0)
    wide = build_backbone(dict(type='torchvision.resnet18', width=2, zero_init_residual=True))
    conv = wide.layer3[0].conv2
    assert conv.weight.std().item() == pytest.approx((2 / (conv.out_channels * 9)) ** 0.5, rel=0.02)
    assert (wide.layer1[0].bn2.weight == 0).all() and (wide.layer1[0].bn1.weight == 1).all()


def test_width_of_another_family_is_refused():
    with pytest.raises(UsageError, match='width 2 of ConvNeXt'):
        build_backbone(dict(type='torchvision.convnext_tiny', width=2))
