"""Backbones by ``output_stride``: one word for every library, the network that is fine-tuned."""
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from densessl.backbones import build_backbone, feature_stages
from densessl.errors import UsageError
from densessl.finetune.finetune import read_downstream_config
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.handoff import compare_features
from densessl.transfer.translate import counterpart, translate
from densessl.weights.backbone_file import save_backbone
from densessl.weights.stated_backbone import check_stated_backbone

META = {'mean': [123.675, 116.28, 103.53], 'std': [58.395, 57.12, 57.375], 'channel_order': 'RGB'}
RESNETS = [{'type': 'torchvision.resnet18'}, {'type': 'timm.resnet18'},
           {'type': 'mmdet.ResNet', 'depth': 18}, {'type': 'mmseg.ResNet', 'depth': 18}]


def trained(cfg):
    """A backbone none of whose branches is silent, as the last γ of a fresh one can be."""
    torch.manual_seed(0)
    backbone = build_backbone(cfg)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return backbone


def compared(cfg, receiver, to):
    """The function check of a backbone ``cfg`` in the module ``receiver`` of library ``to``."""
    state = trained(cfg).state_dict()
    receiver.load_state_dict(translate(TRANSFER_TARGETS.get(to)(), state, cfg['type']))
    return compare_features(state, {**META, 'backbone': cfg}, receiver)


def received(name, cfg):
    """The function check in the backbone of a downstream config."""
    downstream, target = read_downstream_config(f'downstream/{name}')
    receiver, = target.build_receivers(downstream.model).values()
    return compared(cfg, receiver, target.name)


@pytest.mark.parametrize('cfg', RESNETS, ids=lambda cfg: cfg['type'])
@pytest.mark.parametrize('output_stride', [8, 16, 32])
def test_the_last_map_has_the_stride_that_is_asked_for(cfg, output_stride):
    stages = feature_stages(build_backbone({**cfg, 'output_stride': output_stride}), size=64)
    strides = [min(stride, output_stride) for stride in (4, 8, 16, 32)]
    if cfg['type'].startswith('timm.'):      # it gives the last map of each stride
        strides = sorted(set(strides))
    assert [stage.stride for stage in stages] == strides
    assert stages[-1].channels == 512


def test_a_strided_backbone_is_copied_for_a_library_that_nothing_has_loaded_yet(tmp_path):
    cfg = {'type': 'torchvision.resnet18', 'output_stride': 16}
    save_backbone(tmp_path / 'own.pth', build_backbone(cfg).state_dict(),
                  {**META, 'method': 'detcon_s', 'backbone': cfg})
    done = subprocess.run([sys.executable, '-m', 'densessl', 'export', str(tmp_path / 'own.pth'),
                           '--to', 'mmdet', '--out', str(tmp_path / 'copy.pth')],
                          capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / 'copy.pth').is_file(), done.stderr


@pytest.mark.parametrize(('to', 'depth', 'output_stride'), [
    ('mmdet', 18, 8), ('mmdet', 18, 16), ('mmseg', 18, 8), ('mmseg', 18, 16), ('mmseg', 50, 8)])
def test_torchvisions_is_dilated_as_the_downstream_library_dilates(to, depth, output_stride):
    dilations = {8: (1, 1, 2, 4), 16: (1, 1, 1, 2)}[output_stride]
    receiver = build_backbone({
        'type': f'{to}.ResNet', 'depth': depth, 'dilations': dilations,
        'strides': [1 if dilation > 1 else stride
                    for dilation, stride in zip(dilations, (1, 2, 2, 2), strict=True)]})
    check = compared({'type': f'torchvision.resnet{depth}', 'output_stride': output_stride},
                     receiver, to)
    assert check.equal and check.numbers == [1, 2, 3, 4] and max(check.differences) < 1e-6


@pytest.mark.parametrize('cfg', [RESNETS[0], *RESNETS[2:]], ids=lambda cfg: cfg['type'])
def test_the_fcn_twin_has_equal_features_at_stride_16(cfg):
    check = received('fcn_r18_folder', {**cfg, 'output_stride': 16})
    assert check.equal and check.numbers == [1, 2, 3, 4] and not check.restrided


@pytest.mark.parametrize('cfg', [RESNETS[0], *RESNETS[2:]], ids=lambda cfg: cfg['type'])
def test_the_mask_rcnn_twin_strides_the_last_stage_alone(cfg):
    check = received('mask_rcnn_r18_coco', {**cfg, 'output_stride': 16})
    assert check.equal and check.numbers == [1, 2, 3] and check.restrided_stage == 4


def test_another_dilation_is_named_with_the_librarys_own_stage():
    """timm dilates both convolutions of a basic block, and gives three maps of its four stages."""
    check = received('fcn_r18_folder', {'type': 'timm.resnet18', 'output_stride': 16})
    assert check.numbers == [1, 2, 4] and check.stages == 4
    assert max(check.differences[:2]) < 1e-6 < 1e-3 < check.differences[2]
    with pytest.raises(UsageError, match=r'stage 4 differs .* dilation'):
        check.require_equal('mmseg')


def test_stages_count_as_the_library_counts_them():
    numbers = {name: build_backbone({'type': f'timm.{name}', **arguments}).stage_numbers
               for name, arguments in (('resnet18', {}), ('convnext_atto', {'output_stride': 8}),
                                       ('vit_tiny_patch16_224', {}))}
    assert numbers == {'resnet18': (1, 2, 3, 4), 'convnext_atto': (1, 4),
                       'vit_tiny_patch16_224': (1,)}


@pytest.mark.parametrize('cfg', RESNETS, ids=lambda cfg: cfg['type'])
def test_a_copy_for_a_library_keeps_the_output_stride(cfg):
    source = {**cfg, 'output_stride': 16}
    state = trained(source).state_dict()
    for to in ('torchvision', 'mmdet', 'mmseg'):
        target = TRANSFER_TARGETS.get(to)()
        own = counterpart(target, translate(target, state, cfg['type']), source)
        assert own['output_stride'] == 16, to


@pytest.mark.parametrize('cfg', RESNETS, ids=lambda cfg: cfg['type'])
def test_a_file_may_state_it(cfg):
    check_stated_backbone({**cfg, 'output_stride': 16}, Path('backbone.pth'))


@pytest.mark.parametrize(('cfg', 'words'), [
    ({'type': 'torchvision.resnet18', 'output_stride': 4}, ['output_stride 4', '8, 16, 32']),
    ({'type': 'torchvision.resnet18', 'output_stride': True}, ['output_stride True']),
    ({'type': 'torchvision.swin_t', 'output_stride': 16}, ['swin_t takes no output_stride']),
    ({'type': 'torchvision.resnet50', 'output_stride': 16,
      'replace_stride_with_dilation': [False, False, True]}, ['not both']),
    ({'type': 'mmseg.ResNet', 'depth': 18, 'output_stride': 5}, ['output_stride 5', '8, 16, 32']),
    ({'type': 'mmdet.ResNet', 'depth': 18, 'output_stride': 16, 'dilations': (1, 1, 1, 2)},
     ['output_stride or dilations, not both']),
    ({'type': 'mmseg.UNet', 'output_stride': 16}, ['UNet takes no output_stride']),
    ({'type': 'timm.resnet18', 'output_stride': 5}, ['timm.resnet18']),
    ({'type': 'timm.vit_tiny_patch16_224', 'output_stride': 16}, ['output_stride']),
])
def test_what_cannot_be_strided_is_one_clear_line(cfg, words):
    with pytest.raises(UsageError) as error:
        build_backbone(cfg)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert '\n' not in str(error.value)
