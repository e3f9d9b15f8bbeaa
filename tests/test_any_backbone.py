"""Every method on backbones of every family and library: maps from stages and from tokens."""
from __future__ import annotations

import pytest
import torch
from batches import ALL, SMALL, batch, batch_for, total

from densessl.registry import METHODS

BACKBONES = {
    'torchvision ResNet': dict(type='torchvision.resnet18'),
    'torchvision ConvNeXt': dict(type='torchvision.convnext_tiny'),
    'torchvision Swin': dict(type='torchvision.swin_t'),
    'torchvision ViT': dict(type='torchvision.vit_b_32'),
    'timm ResNet': dict(type='timm.resnet18'),
    'timm ConvNeXt': dict(type='timm.convnext_atto'),
    'timm Swin': dict(type='timm.swin_tiny_patch4_window7_224', img_size=64, window_size=2),
    'timm ViT': dict(type='timm.vit_tiny_patch16_224', img_size=64),
    'mmdet ResNet': dict(type='mmdet.ResNet', depth=18),
    'mmseg MiT': dict(type='mmseg.MixVisionTransformer', embed_dims=16),
}
LIGHT = ('torchvision ResNet', 'timm ConvNeXt', 'timm ViT', 'mmdet ResNet', 'mmseg MiT')
PAIRS = [   # the larger ones with every method take minutes; with two methods they are always tried
    pytest.param(name, backbone, id=f'{name}-{backbone}', marks=(
        [] if backbone in LIGHT or name in ('detcon', 'simclr') else [pytest.mark.slow]))
    for name in ALL for backbone in BACKBONES]


@pytest.mark.parametrize('name, backbone', PAIRS)
def test_a_step(name, backbone):
    torch.manual_seed(0)
    method = METHODS.build(dict(type=name, backbone=BACKBONES[backbone], **SMALL.get(name, {})))
    method.init_weights()
    total(method.train(), batch_for(method, samples=2 if method.view_class else 3)).backward()
    trained = [p for p in method.backbone.parameters() if p.requires_grad]
    assert trained and all(torch.isfinite(p.grad).all() for p in trained if p.grad is not None)
    # unused parameters would break DistributedDataParallel
    assert [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize('name', [name for name in ALL if name.startswith('detcon')])
@pytest.mark.parametrize('stage, channels', [(-1, 512), (-2, 256), (1, 128)])
def test_detcon_on_any_stage(name, stage, channels):
    torch.manual_seed(0)
    method = METHODS.build(dict(type=name, stage=stage, backbone=dict(type='torchvision.resnet18')))
    assert method.projector[0].in_features == channels
    loss = total(method.train(), batch(2))
    loss.backward()
    assert torch.isfinite(loss)
