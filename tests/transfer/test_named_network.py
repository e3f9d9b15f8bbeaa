"""Weights for a network that is named: as its library saves it, with every tensor accounted for."""
import pytest
import timm
import torch
import torchvision

from densessl.backbones import build_backbone, feature_maps
from densessl.cli import main
from densessl.errors import UsageError
from densessl.export.foreign_file import Foreign
from densessl.export.named_network import parse_network, read_named
from densessl.weights.backbone_file import load_backbone_file

slow = pytest.mark.slow
MIX = 'mmseg.MixVisionTransformer(embed_dims=16, num_layers=[1, 1, 1, 1])'
NETWORKS = [
    'timm.tf_efficientnet_lite0', 'timm.regnety_002', 'timm.mobilenetv3_small_050',
    'torchvision.shufflenet_v2_x0_5', 'mmdet.ResNet(depth=18)', MIX,
    *(pytest.param(name, marks=slow) for name in (
        'timm.vit_tiny_patch16_224', 'timm.deit_tiny_distilled_patch16_224', 'timm.pvt_v2_b0',
        'timm.inception_v3', 'timm.hrnet_w18_small', 'timm.xcit_nano_12_p16_224',
        'timm.swin_s3_tiny_224', 'timm.maxvit_rmlp_pico_rw_256', 'timm.nfnet_f0',
        'timm.convnextv2_atto(in_chans=3)', 'torchvision.efficientnet_b0',
        'torchvision.regnet_y_400mf', 'torchvision.swin_t', 'torchvision.vit_b_32',
        'torchvision.mnasnet0_5', 'torchvision.vgg11_bn', 'mmdet.MobileNetV2',
        'mmdet.SwinTransformer(embed_dims=24, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8])',
        'mmseg.VisionTransformer(embed_dims=96, num_layers=2, num_heads=3)', 'mmseg.MSCAN'))]


def as_saved(cfg):
    """What the library's own users save of ``cfg``: the whole model, with its classifier."""
    library, _, name = cfg['type'].partition('.')
    arguments = {key: value for key, value in cfg.items() if key != 'type'}
    if library == 'timm':
        return timm.create_model(name, num_classes=7, **arguments).state_dict()
    if library == 'torchvision':
        return torchvision.models.get_model(name, num_classes=7, **arguments).state_dict()
    state = build_backbone(cfg).state_dict()     # a detector or segmentor, as mmengine saves it
    head = {f'{part}.weight': torch.ones(2) for part in (
        'neck.lateral_convs.0.conv', 'rpn_head.conv', 'roi_head.bbox_head.fc', 'bbox_head.fc',
        'decode_head.conv_seg', 'auxiliary_head.0.conv_seg', 'encoder.layers.0', 'level_embed',
        'dn_query_generator.label_embedding', 'memory_trans_fc', 'reference_points_fc')}
    return {'meta': {'epoch': 3}, 'state_dict': {
        **{f'backbone.{key}': value for key, value in state.items()}, **head}}


def written(folder, content):
    torch.save(content, folder / 'weights.pth')
    return folder / 'weights.pth'


@pytest.mark.parametrize('text', NETWORKS)
def test_each_network_takes_what_its_library_saves(text, tmp_path):
    torch.manual_seed(0)
    cfg = parse_network(text)
    library = cfg['type'].partition('.')[0]
    saved = as_saved(cfg)
    state, meta, lines, keys = read_named(written(tmp_path, saved), Foreign(library, cfg))
    flat = saved.get('state_dict', saved)
    assert keys.complete and len(keys.loaded) == len(state)
    assert len(state) + meta['imported']['dropped'] == len(flat)
    for key, value in state.items():
        assert torch.equal(value, flat[key] if key in flat else flat[f'backbone.{key}'])
    assert meta['backbone'] == cfg and lines[0].startswith(f'built: {library} (')
    assert 'dropped' in lines[1]
    rebuilt = build_backbone(meta['backbone'])
    rebuilt.load_state_dict(state)
    again = read_named(written(tmp_path, saved), Foreign('auto', cfg))
    assert again[0].keys() == state.keys()
    if library == 'timm':
        mean = [255 * value for value in timm.get_pretrained_cfg_value(
            cfg['type'].partition('.')[2], 'mean')]
        assert meta['mean'] == pytest.approx(mean)


def test_a_backbone_saved_alone_or_wrapped_or_under_a_prefix_is_the_same(tmp_path):
    cfg = {'type': 'timm.regnety_002'}
    backbone = build_backbone(cfg).state_dict()
    for content, layout in ((backbone, 'timm'), ({'model': backbone}, 'timm'),
                            ({f'module.{key}': value.half() for key, value in backbone.items()
                              if not key.endswith('tracked')}, 'auto'),
                            ({f'net.trunk.{key}': value for key, value in backbone.items()}
                             | {'net.queue': torch.zeros(3)}, 'net.trunk.')):
        state, meta, _, keys = read_named(written(tmp_path, content), Foreign(layout, cfg))
        assert keys.complete and state.keys() == backbone.keys()
        assert all(value.dtype == backbone[key].dtype for key, value in state.items())
        assert meta['mean'] == pytest.approx([123.675, 116.28, 103.53])


def test_averaged_weights_beside_the_plain_ones_are_chosen_by_their_prefix(tmp_path):
    cfg = {'type': 'timm.mobilenetv3_small_050'}
    plain, averaged = (timm.create_model('mobilenetv3_small_050').state_dict() for _ in range(2))
    path = written(tmp_path, {'epoch': 3, 'state_dict': plain, 'state_dict_ema': averaged})
    with pytest.raises(UsageError, match=r'unknown to the model \(state_dict_ema\.'):
        read_named(path, Foreign('timm', cfg))
    for prefix, expected in (('state_dict.', plain), ('state_dict_ema.', averaged)):
        state, *_ = read_named(path, Foreign(prefix, cfg))
        assert all(torch.equal(value, expected[key]) for key, value in state.items())


def test_weights_of_a_published_method_fill_the_named_network(tmp_path):
    model = torchvision.models.resnet18().state_dict()
    content = {'state_dict': {**{f'module.encoder_q.{key}': value for key, value in model.items()},
                              'module.queue': torch.zeros(2, 8)}}
    _, meta, lines, keys = read_named(written(tmp_path, content),
                                      Foreign('auto', {'type': 'timm.resnet18'}))
    assert keys.complete and meta['method'] == 'moco'
    assert lines[0].startswith('built: moco') and meta['backbone'] == {'type': 'timm.resnet18'}


@pytest.mark.parametrize(('change', 'words'), [
    (lambda state: state.pop('blocks.0.0.conv_dw.weight'),
     r'287 of 288 keys loaded; 1 missing in the file \(blocks\.0\.0\.conv_dw\.weight\)'),
    (lambda state: state.update(extra=torch.zeros(2)),
     r'288 of 289 keys loaded; 1 unknown to the model \(extra\)'),
    (lambda state: state.update({'bn1.weight': torch.ones(8)}),
     r'1 of another shape \(bn1\.weight \(8,\) → \(32,\)\)'),
    (lambda state: state.update({'bn1.weight': torch.full((32,), torch.nan)}),
     r'bn1\.weight holds infinities or NaN'),
])
def test_what_does_not_fit_stops_the_import(change, words, tmp_path):
    cfg = {'type': 'timm.tf_efficientnet_lite0'}
    state = timm.create_model('tf_efficientnet_lite0').state_dict()
    change(state)
    with pytest.raises(UsageError, match=words) as error:
        read_named(written(tmp_path, state), Foreign('timm', cfg))
    assert '\n' not in str(error.value) and 'timm.tf_efficientnet_lite0()' in str(error.value)


@pytest.mark.parametrize(('text', 'about', 'words'), [
    ('torchvision.resnet18(progress=True)', {}, r'backbone\.progress = True cannot be recorded'),
    ('torchvision.resnet18', {'mean': (2e6, 1.0, 1.0)}, r'mean = .* numbers from -1000000 to 1000'),
    ('torchvision.resnet18', {'std': (1e-9, 1.0, 1.0)}, r'std = .* numbers from 1e-06 to 1000000'),
])
def test_nothing_is_imported_that_would_be_refused_when_it_is_read(text, about, words, tmp_path):
    path = written(tmp_path, as_saved({'type': 'torchvision.resnet18'}))
    with pytest.raises(UsageError, match=words) as error:
        read_named(path, Foreign(network=parse_network(text), **about))
    assert '\n' not in str(error.value)


def test_another_network_is_refused_with_what_is_missing(tmp_path):
    path = written(tmp_path, timm.create_model('tf_efficientnet_lite0').state_dict())
    with pytest.raises(UsageError, match=r'288 of 352 .*64 missing .*se\.conv_reduce'):
        read_named(path, Foreign('timm', {'type': 'timm.tf_efficientnet_b0'}))
    with pytest.raises(UsageError, match=r'read as timm: 0 of \d+ keys loaded; \d+ missing'):
        read_named(path, Foreign('auto', {'type': 'timm.vit_tiny_patch16_224'}))
    with pytest.raises(UsageError, match=r'1 of 411 .*--from auto tries the other layouts'):
        read_named(path, Foreign('torchvision', {'type': 'torchvision.resnet18'}))


@pytest.mark.parametrize(('text', 'expected'), [
    ('timm.resnet18', {'type': 'timm.resnet18'}),
    ('timm.resnet18()', {'type': 'timm.resnet18'}),
    (' mmdet.ResNet(depth=18, strides=(1, 2), with_cp=False)',
     {'type': 'mmdet.ResNet', 'depth': 18, 'strides': (1, 2), 'with_cp': False}),
    ('timm.vit_base_patch16_224.augreg_in21k', {'type': 'timm.vit_base_patch16_224.augreg_in21k'}),
])
def test_a_network_is_written_as_messages_write_it(text, expected):
    assert parse_network(text) == expected


@pytest.mark.parametrize('text', ['', 'timm.a(', 'timm.a(1)', 'timm.a(x=print())', 'timm.a(**{})',
                                  'timm.a; b', 'timm.a(type="b")', 'timm.a(x=1)(y=2)',
                                  'timm.a(x={[1]: 2})'])
def test_anything_else_is_refused(text):
    with pytest.raises(UsageError, match='with plain values'):
        parse_network(text)


@pytest.mark.parametrize('text', ['timm.resnet18(pretrained=True)',
                                  "torchvision.resnet18(weights='DEFAULT')",
                                  "mmdet.ResNet(depth=18, init_cfg={'type': 'Pretrained'})"])
def test_no_argument_may_load_other_weights(text):
    with pytest.raises(UsageError, match='would load other weights'):
        parse_network(text)


def test_the_command_prints_the_table_and_writes_a_backbone(tmp_path, capsys):
    path = written(tmp_path, timm.create_model('tf_efficientnet_lite0').state_dict())
    arguments = ['export', str(path), '--from', 'timm', '--as', 'timm.tf_efficientnet_lite0']
    assert main([*arguments, '--std', '1', '2', '3']) == 0
    printed = capsys.readouterr().out
    assert 'dropped: 8 tensors that are not the backbone’s (conv_head, bn2, classifier)' in printed
    assert 'weights: 288 of 288 keys loaded' in printed and 'blocks     282' in printed
    state, meta = load_backbone_file(tmp_path / 'backbone.pth')
    assert meta['mean'] == [127.5] * 3 and meta['std'] == [1, 2, 3]    # timm's own, and as told
    assert meta['imported']['assumed'] == ['mean', 'channel_order']
    backbone = build_backbone(meta['backbone'])
    backbone.load_state_dict(state)
    assert [map_.shape[1] for map_ in feature_maps(backbone, torch.zeros(1, 3, 64, 64))] == [
        24, 40, 112, 320]
    assert main([*arguments[:2], *arguments[4:]]) == 2
    assert '--as is for imports: add --from auto' in capsys.readouterr().err
    assert main([*arguments[:-1], 'timm.tf_efficientnet_lite99']) == 2
    assert 'unknown timm model' in capsys.readouterr().err
