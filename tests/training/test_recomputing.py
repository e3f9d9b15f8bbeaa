"""Gradient checkpointing changes what is kept, and nothing else: neither losses, gradients nor
statistics."""
from __future__ import annotations

import copy

import pytest
import torch
from batches import batch_for, total
from runs import TINY
from torch import nn

from densessl.backbones import build_backbone
from densessl.cli import main
from densessl.devices.recomputing import blocks, recompute_blocks
from densessl.dist import synchronize_batch_norm
from densessl.engine.checkpoint_file import read_checkpoint
from densessl.errors import UsageError
from densessl.registry import METHODS

NETWORKS = [     # with how many blocks each has
    ('torchvision.resnet18', {}, 8), ('torchvision.swin_t', {}, 12 + 3),
    ('torchvision.shufflenet_v2_x0_5', {}, 16), ('torchvision.densenet121', {}, 58),
    ('timm.vit_tiny_patch16_224', {}, 12), ('timm.swin_tiny_patch4_window7_224', {}, 4),
    ('timm.efficientnet_b0', {}, 16), ('mmdet.ResNet', {'depth': 18}, 8),
    ('mmdet.SwinTransformer', {'depths': [1, 1, 1, 1], 'embed_dims': 24,
                               'num_heads': [1, 2, 2, 2]}, 4),
]


def kept(backbone, image):
    """The outputs, and the bytes that the graph holds for the backward pass."""
    held = {}

    def pack(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        maps = backbone(image)
    weights = {p.untyped_storage().data_ptr() for p in backbone.parameters()}
    return maps, sum(size for place, size in held.items() if place not in weights)


@pytest.mark.parametrize('name, arguments, number', NETWORKS,
                         ids=[name for name, *_ in NETWORKS])
def test_maps_gradients_and_statistics_are_the_same(name, arguments, number):
    torch.manual_seed(0)
    plain = build_backbone(dict(type=name, **arguments))
    plain.train()       # not chained: some libraries forget to return the module
    again = copy.deepcopy(plain)
    assert recompute_blocks(again) == number
    image = torch.randn(3, 3, 64, 64)
    memory = []
    for network in (plain, again):
        torch.manual_seed(1)        # stochastic depth
        maps, size = kept(network, image)
        sum((one.square().mean() * (i + 1)) for i, one in enumerate(maps)).backward()
        memory.append(size)
    for (key, one), two in zip(plain.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, atol=1e-6, rtol=1e-5, msg=key)
    state = again.state_dict()
    assert list(state) == list(plain.state_dict())
    for key, value in plain.state_dict().items():
        assert torch.equal(state[key], value), key
    assert memory[1] < 0.6 * memory[0], memory


def test_without_gradients_nothing_is_computed_again():
    network = build_backbone(dict(type='torchvision.resnet18')).train()
    recompute_blocks(network)
    with torch.no_grad():
        network(torch.randn(2, 3, 32, 32))
    assert int(network.state_dict()['layer1.0.bn1.num_batches_tracked']) == 1


def test_blocks_are_found_in_any_container():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

    network = nn.Sequential(nn.Linear(2, 2), nn.ModuleList([Block(), nn.Sequential(Block())]))
    assert blocks(network) == [network[1][0], network[1][1][0]]


def test_a_chain_without_blocks_is_refused():
    with pytest.raises(UsageError, match='gradient_checkpointing: the backbone StageMaps has no'):
        recompute_blocks(build_backbone(dict(type='torchvision.vgg11')))


@pytest.mark.parametrize('synchronized', [False, True])
@pytest.mark.parametrize('name', ['detcon', 'moco'])
def test_a_method_learns_the_same(name, synchronized):
    """With a target network, which shares the class; and with the batch norm of several processes.
    """
    methods = []
    for _ in range(2):
        torch.manual_seed(0)
        method = METHODS.build(dict(type=name, backbone=dict(type='torchvision.resnet18')))
        method.init_weights()
        methods.append(synchronize_batch_norm(method.train(), 'cpu') if synchronized else method)
    recompute_blocks(methods[1].backbone)
    losses = []
    for method in methods:
        torch.manual_seed(1)
        loss = total(method, batch_for(method))
        loss.backward()
        method.after_step(0, 10)
        losses.append(loss.detach())
    assert torch.equal(*losses)
    for (key, one), two in zip(methods[0].named_parameters(), methods[1].parameters(),
                               strict=True):
        if one.grad is not None:
            torch.testing.assert_close(two.grad, one.grad, atol=1e-6, rtol=1e-5, msg=key)
    for (key, one), two in zip(methods[0].state_dict().items(),
                               methods[1].state_dict().values(), strict=True):
        assert torch.equal(one, two), key


@pytest.mark.usefixtures('surroundings')
def test_a_run_gives_the_same_weights_by_its_config(scenes, capsys):
    options = [one for one in TINY if 'model' not in one]
    for folder, more in (('plain', []), ('again', ['gradient_checkpointing=True'])):
        assert main(['train', 'small/simclr_r18', '--data', str(scenes), '--work-dir', folder,
                     '--epochs', '1', '--cfg-options', *options, *more]) == 0
    assert '8 blocks are computed again' in capsys.readouterr().out
    plain, again = (read_checkpoint(f'{folder}/iter_3.pth')['state_dict']
                    for folder in ('plain', 'again'))
    assert list(plain) == list(again)
    for key, value in plain.items():
        torch.testing.assert_close(again[key], value, atol=1e-5, rtol=1e-4, msg=key)


@pytest.mark.usefixtures('surroundings')
def test_not_together_with_compile(scenes, tmp_path, capsys):
    assert main(['train', 'small/simclr_r18', '--data', str(scenes), '--work-dir', 'run',
                 '--cfg-options', 'gradient_checkpointing=True', 'compile=True']) == 2
    assert 'gradient_checkpointing and compile' in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()
