"""Import: each layout of published checkpoints, made on the spot, and what must be refused."""
from dataclasses import replace

import pytest
import timm
import torch
import torchvision
from published_layouts import HEAD, LAYOUTS, K, Q, numbered, resnet18, under, written

from densessl.backbones import build_backbone, feature_maps
from densessl.cli import main
from densessl.errors import UsageError
from densessl.export.foreign import read_foreign
from densessl.export.foreign_file import Foreign
from densessl.weights.backbone_file import load_backbone_file


@pytest.mark.parametrize('name', LAYOUTS)
def test_each_layout_is_detected_and_gives_the_online_encoder(name, tmp_path):
    path = written(tmp_path, LAYOUTS[name]())
    state, meta, lines = read_foreign(path, Foreign())
    library = 'mmdet.ResNet' if name in ('mmselfsup', 'densecl') else 'torchvision.resnet18'
    assert meta['backbone']['type'] == library
    assert name.strip() in meta['imported']['layout'] and name.strip() in lines[0]
    assert state.keys() == Q.keys() and all(torch.equal(state[key], Q[key]) for key in Q)
    build_backbone(meta['backbone']).load_state_dict(state)


def test_what_was_dropped_and_assumed_is_said_and_can_be_set(tmp_path):
    path = written(tmp_path, LAYOUTS['moco']())
    _, meta, lines = read_foreign(path, Foreign())
    assert meta['method'] == 'moco' and meta['imported']['dropped'] == 124
    assert 'dropped: 124 tensors that are not the backbone’s (encoder_q.fc, encoder_k.conv1' in (
        ' '.join(lines))
    assert meta['imported']['assumed'] == ['mean', 'std', 'channel_order']
    assert meta['mean'] == [123.675, 116.28, 103.53] and 'assumed: mean, std' in lines[-1]
    about = Foreign(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), channel_order='BGR')
    _, meta, lines = read_foreign(path, replace(about, layout='moco'))
    assert (meta['mean'], meta['std'], meta['channel_order']) == ([1, 2, 3], [4, 5, 6], 'BGR')
    assert meta['imported']['assumed'] == [] and 'assumed' not in lines[-1]
    with pytest.raises(UsageError, match='--std'):
        Foreign(std=(1.0, 0.0, 1.0))


PREPROCESSOR = """
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[1.5, 2, 3], std=[4.0, 5.0, 6.0], bgr_to_rgb=%s),
    backbone=dict(type='ResNet'))
"""


@pytest.mark.parametrize(('text', 'order'), [
    (PREPROCESSOR % False, 'BGR'), (PREPROCESSOR % True, 'RGB'),
    ('norm = 1\nimg_norm_cfg = dict(mean=[1.5, 2, 3], std=[4, 5, 6], to_rgb=False)', 'BGR'),
    ("data_preprocessor = {'mean': (1.5, 2, 3), 'std': (4, 5, 6)}\nimport os; os.abort()", None),
])
def test_the_normalization_that_a_config_records_is_used(text, order, tmp_path):
    content = LAYOUTS['mmselfsup']()
    path = written(tmp_path, {**content, 'meta': {'epoch': 3, 'cfg': text}})
    _, meta, lines = read_foreign(path, Foreign())
    assert (meta['mean'], meta['std']) == ([1.5, 2, 3], [4, 5, 6])
    assert meta['channel_order'] == (order or 'RGB')
    assert meta['imported']['assumed'] == ([] if order else ['channel_order'])
    assert lines[-1].startswith('read from the file: mean, std')
    _, meta, _ = read_foreign(path, Foreign(mean=(7., 8., 9.)))       # what the user says is above
    assert (meta['mean'], meta['std']) == ([7, 8, 9], [4, 5, 6])


@pytest.mark.parametrize('text', [
    'data_preprocessor = dict(mean=[1, 2, 3], std=[4, 5, 0])',
    'data_preprocessor = dict(mean=[1, 2], std=[4, 5])',
    'data_preprocessor = dict(mean=[1, 2, 3], std=somewhere)',
    'data_preprocessor = dict(mean=[1, 2, "x"], std=[1, 1, 1])',
    f'data_preprocessor = dict(mean=[1, 2, {10 ** 400}], std=[1, 1, 1])',   # no double holds it
    'data_preprocessor = dict(mean={[1]: 2}, std=[1, 1, 1])',               # no key of a dict
    'data_preprocessor = dict(mean=[1, 2, 3], std=[1, 1, 1]); img_norm_cfg = dict(mean=[3, 2, 1], '
    'std=[1, 1, 1])',
    'data_preprocessor = (', 'data_preprocessor = 3', '(' * 9999])
def test_what_records_none_or_several_is_assumed_as_before(text, tmp_path):
    path = written(tmp_path, {**LAYOUTS['mmselfsup'](), 'meta': {'cfg': text}})
    _, meta, _ = read_foreign(path, Foreign())
    assert meta['mean'] == [123.675, 116.28, 103.53] and len(meta['imported']['assumed']) == 3


def test_buffers_of_a_preprocessor_are_used(tmp_path):
    content = LAYOUTS['mmselfsup']()
    content['state_dict'] |= {f'data_preprocessor.{key}': torch.tensor(value).view(3, 1, 1)
                              for key, value in (('mean', [1., 2, 3]), ('std', [4., 5, 6]))}
    _, meta, _ = read_foreign(written(tmp_path, content), Foreign())
    assert (meta['mean'], meta['std']) == ([1, 2, 3], [4, 5, 6])
    assert meta['imported']['recorded'] == ['mean', 'std']


@pytest.mark.parametrize(('make', 'expected'), [
    (lambda: torchvision.models.resnet50(), {'type': 'torchvision.resnet50'}),
    (lambda: timm.create_model('vit_tiny_patch16_224', depth=2, num_classes=3),
     {'type': 'timm.vit_base_patch16_224', 'embed_dim': 192, 'depth': 2, 'num_heads': 3}),
    (lambda: timm.create_model('convnext_atto', num_classes=3),
     {'type': 'timm.convnext_tiny', 'dims': (40, 80, 160, 320)}),
    (lambda: timm.create_model('resnet18d', num_classes=3),
     {'type': 'timm.resnet18', 'stem_type': 'deep', 'avg_down': True}),
], ids=['resnet50', 'vit', 'convnext', 'deep stem'])
def test_the_backbone_is_told_by_its_shapes_and_computes_the_same(make, expected, tmp_path):
    torch.manual_seed(0)
    model = make().eval()
    state, meta, _ = read_foreign(written(tmp_path, model.state_dict()), Foreign())
    assert expected.items() <= meta['backbone'].items()
    backbone = build_backbone(meta['backbone'])
    backbone.load_state_dict(state)
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        if hasattr(model, 'forward_features'):
            theirs = model.forward_features(image)
        else:
            theirs = torch.nn.Sequential(*list(model.children())[:-2])(image)
    ours = feature_maps(backbone, image)[-1]
    if theirs.ndim == 3:                                             # tokens, the class token first
        theirs = theirs[:, 1:].transpose(1, 2).reshape(ours.shape)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))


def test_a_vit_teacher_and_a_masked_autoencoder(tmp_path):
    vit = timm.create_model('vit_tiny_patch16_224', depth=2, num_classes=0).state_dict()
    student = {key: value + 1 for key, value in vit.items()}
    dino = {'teacher': {**under('backbone.', vit), **under('head.mlp.', HEAD)},
            'student': under('module.backbone.', student), 'dino_loss': {'c': torch.zeros(1)}}
    mae = {'model': {**vit, 'mask_token': torch.zeros(1, 1, 8),
                     **under('decoder_blocks.', HEAD), 'decoder_pos_embed': torch.zeros(1)}}
    for name, content in (('dino', dino), ('mae', mae)):
        state, meta, _ = read_foreign(written(tmp_path, content, f'{name}.pth'), Foreign())
        assert meta['method'] == name and meta['backbone']['depth'] == 2
        assert all(torch.equal(state[key], vit[key]) for key in vit)


def test_half_precision_and_missing_counters_are_mended(tmp_path):
    old = {key: value.half() if value.is_floating_point() else value for key, value in Q.items()
           if not key.endswith('num_batches_tracked')}
    state, _, _ = read_foreign(written(tmp_path, old), Foreign())
    assert state.keys() == Q.keys() and state['conv1.weight'].dtype == torch.float32


def broken(change):
    state = resnet18()
    change(state)
    return state


@pytest.mark.parametrize(('content', 'layout', 'words'), [
    ({**under('a.', Q), **under('b.', K)}, 'auto',
     r'2 encoders \(a.conv1.weight, b.conv1.weight\): name the prefix of one, such as --from a\.'),
    (broken(lambda s: s.pop('layer3.0.conv2.weight')), 'auto', '1 missing in the file .layer3.0'),
    (broken(lambda s: [s.pop(key) for key in list(s) if key.startswith('layer3.1.')]), 'auto',
     'builds no ResNets with a plain 7×7 stem of this depth'),
    (broken(lambda s: s.update({'layer3.0.conv2.weight': torch.zeros(256, 3, 3, 3)})), 'auto',
     '1 of another shape .layer3.0.conv2.weight'),
    (broken(lambda s: s.update({'bn1.weight': torch.full((64,), torch.nan)})), 'auto',
     'infinities or NaN'),
    (broken(lambda s: s.update({'attention.weight': torch.zeros(2)})), 'auto',
     'no known layout'),
    ({**under('encoder_q.', Q), **under('module.encoder_q.', K)}, 'moco', 'two different encoders'),
    (Q, 'moco', 'does not fit --from moco: 120 keys have no place in it'),
    (Q, 'mocco', "did you mean 'moco'"),
    (Q, 'encoder.', 'no key of .* begins with encoder'),
    ({'model': torch.nn.Identity().state_dict()}, 'auto', 'no named tensors'),
    ({'state_dict': {}, 'meta': {'sha256': ''}}, 'auto', 'leave out --from'),
], ids=['two encoders', 'missing layer', 'missing block', 'wrong shape', 'NaN', 'unknown module',
        'two values', 'other layout', 'misspelt', 'no such prefix', 'no tensors', 'our own'])
def test_what_cannot_be_told_is_refused_in_one_line(content, layout, words, tmp_path):
    with pytest.raises(UsageError, match=words) as error:
        read_foreign(written(tmp_path, content), Foreign(layout))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', [lambda state: state, numbered], ids=['names', 'numbers'])
def test_a_prefix_chooses_one_of_two_encoders(name, tmp_path):
    path = written(tmp_path, {'net': {**under('a.', name(Q)), **under('b.', name(K)),
                                      **under('b.fc.', HEAD)}})
    state, meta, lines = read_foreign(path, Foreign('net.b.'))
    assert all(torch.equal(state[key], K[key]) for key in K)
    assert meta['imported']['dropped'] == 122 and 'keys after net.b.' in lines[0]


def test_the_command_imports_checks_a_copy_and_writes_safetensors(tmp_path, capsys):
    path = written(tmp_path, LAYOUTS['lightly']())
    out = tmp_path / 'backbone.pth'
    assert main(['export', str(path), '--from', 'auto', '--to', 'mmseg', '--safetensors',
                 '--std', '57', '57', '57']) == 0
    said = capsys.readouterr().out
    assert 'detected: lightly (lightly-ai/lightly): torchvision.resnet18()' in said
    assert 'assumed: mean, channel_order' in said
    assert 'mmseg.ResNet(depth=18): 120 of 120 keys loaded; stages 1–4 of 4 compared' in said
    state, meta = load_backbone_file(out)
    assert meta['std'] == [57, 57, 57] and meta['imported']['file'] == 'weights.pth'
    same, about = load_backbone_file(tmp_path / 'backbone.safetensors')
    assert about == meta and all(torch.equal(same[key], state[key]) for key in state)
    assert main(['export', str(path), '--mean', '0', '0', '0']) == 2
    assert main(['export', str(path)]) == 2
    said = capsys.readouterr().err
    assert '--mean is for imports: add --from auto' in said and '--from auto' in said


def test_safetensors_of_others_are_imported(tmp_path):
    from safetensors.torch import save_file
    save_file(resnet18(fc=True), tmp_path / 'model.safetensors')
    state, meta, _ = read_foreign(tmp_path / 'model.safetensors', Foreign())
    assert meta['backbone'] == {'type': 'torchvision.resnet18'}
    assert all(torch.equal(state[key], Q[key]) for key in Q)
    (tmp_path / 'bad.safetensors').write_bytes(b'no weights')
    with pytest.raises(UsageError, match='cannot be read as a safetensors file'):
        read_foreign(tmp_path / 'bad.safetensors', Foreign())
