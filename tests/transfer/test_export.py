"""Export: plain weights with provenance, safe to open, and nothing written over."""
import copy

import pytest
import torch
import torchvision

from densessl.backbones import build_backbone
from densessl.cli import main
from densessl.errors import UsageError
from densessl.export.export import export_backbone, load_backbone_file, weights_hash
from densessl.weights.backbone_file import load_weights_only, save_backbone


def test_round_trip(checkpoint18, tmp_path):
    done = export_backbone(checkpoint18, tmp_path / 'b.pth')
    content = torch.load(done.path, weights_only=True)
    assert set(content) == {'state_dict', 'meta'}
    model = torchvision.models.resnet18()
    missing, unexpected = model.load_state_dict(content['state_dict'], strict=False)
    assert missing == ['fc.weight', 'fc.bias'] and unexpected == []
    trained = torch.load(checkpoint18, weights_only=True)['state_dict']
    assert all(torch.equal(trained[f'backbone.{key}'], value)
               for key, value in content['state_dict'].items())
    state, meta = load_backbone_file(done.path)
    assert meta['sha256'] == weights_hash(state)
    assert meta['method'] == 'some_method' and meta['channel_order'] == 'RGB'
    build_backbone(meta['backbone']).load_state_dict(state)


@pytest.mark.parametrize(('to', 'counterpart'), [
    ('mmseg', {'type': 'mmseg.ResNet', 'depth': 18}), ('timm', {'type': 'timm.resnet18'}),
    ('torchvision', {'type': 'torchvision.resnet18'})])
def test_a_foreign_copy_is_checked_on_the_targets_own_backbone(checkpoint18, tmp_path, to,
                                                               counterpart):
    done = export_backbone(checkpoint18, tmp_path / 'b.pth', to=to)
    assert done.copy == tmp_path / f'b_{to}.pth' and done.counterpart == counterpart
    assert done.keys.complete and len(done.keys.loaded) == 120
    assert done.features.equal and len(done.features.differences) == 4
    build_backbone(counterpart).load_state_dict(
        torch.load(done.copy, weights_only=True)['state_dict'])
    with pytest.raises(UsageError, match=f"copy with the keys of '{to}'"):
        load_backbone_file(done.copy)


def test_a_resnext_finds_its_counterpart(make_checkpoint, tmp_path):
    checkpoint = make_checkpoint({'type': 'timm.resnext50_32x4d'})
    done = export_backbone(checkpoint, tmp_path / 'b.pth', to='mmseg')
    assert done.counterpart == {'type': 'mmseg.ResNeXt', 'depth': 50, 'groups': 32,
                                'base_width': 4}
    assert done.features.equal


def test_no_exact_translation_writes_nothing(make_checkpoint, tmp_path):
    checkpoint = make_checkpoint({'type': 'timm.regnetx_002'})
    with pytest.raises(UsageError, match='possible are mmseg backbones and, from any library, Res'):
        export_backbone(checkpoint, tmp_path / 'b.pth', to='mmseg')
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(checkpoint18, make_checkpoint, tmp_path):
    out = export_backbone(checkpoint18, tmp_path / 'b.pth').path
    before = out.read_bytes()
    assert export_backbone(checkpoint18, out).unchanged == [out]          # the same weights
    other = make_checkpoint({'type': 'timm.convnext_atto'})
    with pytest.raises(UsageError, match='holds something else'):
        export_backbone(other, out)
    with pytest.raises(UsageError, match='is the checkpoint itself'):
        export_backbone(other, other)
    with pytest.raises(UsageError, match='is a folder'):
        export_backbone(other, tmp_path)
    assert out.read_bytes() == before
    export_backbone(other, out, overwrite=True)
    assert load_backbone_file(out)[1]['backbone'] == {'type': 'timm.convnext_atto'}


def test_a_corrected_input_is_written_or_refused_by_name(tmp_path, capsys):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / 'w.pth')
    names = ('backbone.pth', 'backbone.safetensors', 'backbone_torchvision.pth')
    command = ['export', str(tmp_path / 'w.pth'), '--from', 'auto', '--safetensors',
               '--to', 'torchvision']
    corrected = [*command, '--mean', '1', '2', '3', '--channel-order', 'BGR']
    assert main(command) == main(command) == 0
    assert capsys.readouterr().out.count(' (already there): ') == 3
    before = {name: (tmp_path / name).read_bytes() for name in names}
    assert main(corrected) == 2
    line = capsys.readouterr().err
    assert ('backbone.pth exists and holds these weights with another provenance (mean [123.675, '
            '116.28, 103.53], not [1.0, 2.0, 3.0]; channel_order \'RGB\', not \'BGR\'; '
            in line)
    assert 'add --overwrite' in line
    assert before == {name: (tmp_path / name).read_bytes() for name in names}
    assert main([*corrected, '--overwrite']) == 0
    assert 'already there' not in capsys.readouterr().out
    for name in names:
        meta = load_weights_only(tmp_path / name)['meta']
        assert (meta['mean'], meta['channel_order']) == ([1, 2, 3], 'BGR')
    assert main(corrected) == 0     # as it is: nothing to overwrite


class Evil:
    def __reduce__(self):
        return (print, ('code ran',))


@pytest.mark.parametrize('zipped', [True, False])
def test_a_file_with_code_in_it_is_refused(tmp_path, capsys, zipped):
    torch.save({'state_dict': {}, 'meta': Evil()}, tmp_path / 'evil.pth',
               _use_new_zipfile_serialization=zipped)
    with pytest.raises(UsageError, match='opening them would run code'):
        load_backbone_file(tmp_path / 'evil.pth')
    assert 'code ran' not in capsys.readouterr().out


def provenance(backbone):
    return {'method': 'm', 'backbone': backbone, 'mean': [0, 0, 0], 'std': [1, 1, 1],
            'channel_order': 'RGB'}


def written(path, content):
    torch.save(content, path)
    return path


@pytest.mark.parametrize(('content', 'words'), [
    (torch.zeros(2), 'holds a Tensor'),
    ({'model': {}}, 'no state_dict'),
    ({'state_dict': {'w': torch.zeros(1)}}, 'no provenance'),
    ({'state_dict': {'head.w': torch.zeros(1)}, 'meta': {
        'densessl': provenance({'type': 'torchvision.resnet18'})}},
     'holds no backbone'),
    ({'state_dict': {'backbone.w': torch.zeros(1)}, 'meta': {'densessl': {'method': 'm'}}},
     'does not say the backbone, mean, std, channel_order'),
])
def test_a_checkpoint_that_is_none_is_one_clear_line(tmp_path, content, words):
    with pytest.raises(UsageError, match=words) as error:
        export_backbone(written(tmp_path / 'c.pth', content), tmp_path / 'b.pth')
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'b.pth').exists()


def test_a_backbone_file_that_is_none_is_one_clear_line(checkpoint18, backbone18, tmp_path):
    (tmp_path / 'text.pth').write_text('no weights')
    (tmp_path / 'cut.pth').write_bytes(backbone18.read_bytes()[:5000])
    content = torch.load(backbone18, weights_only=True)
    edited = copy.deepcopy(content)
    edited['state_dict']['conv1.weight'][0] = 0
    noise = {'number': b'jk\0\0\0.', 'empty': b'', 'stack': b'0', 'index': b'a',
             'text': b'X\x01\0\0\0\xff.'}
    for name, content in noise.items():
        (tmp_path / f'{name}.bin').write_bytes(content)
    for path, words in ((tmp_path / 'missing.pth', 'no file'), (tmp_path, 'it is a folder'),
                        *((path, 'bin is refused: it is not a PyTorch file')
                          for path in tmp_path.glob('*.bin')),
                        (tmp_path / 'text.pth', 'it is not a PyTorch file'),
                        (tmp_path / 'cut.pth', 'cut.pth'),
                        (checkpoint18, 'densessl export'),
                        (written(tmp_path / 'e.pth', edited), 'damaged or was edited')):
        with pytest.raises(UsageError, match=words) as error:
            load_backbone_file(path)
        assert '\n' not in str(error.value)


def test_the_command_says_what_it_wrote_and_how_it_was_checked(checkpoint18, tmp_path, capsys):
    out = str(tmp_path / 'b.pth')
    assert main(['export', str(checkpoint18), '--out', out, '--to', 'mmseg']) == 0
    said = capsys.readouterr().out
    assert 'torchvision.resnet18, some_method, 2 epochs on photos; 120 tensors' in said
    assert 'mmseg.ResNet(depth=18): 120 of 120 keys loaded' in said
    assert f'--backbone {out}' in said
    assert main(['export', str(tmp_path / 'none.pth')]) == 2
    assert main(['export', str(checkpoint18), '--out', out, '--to', 'mmsegg']) == 2
    assert "did you mean 'mmseg'" in capsys.readouterr().err


def test_provenance_in_safetensors_has_its_checksum(backbone18, tmp_path):
    """The weights' sha256 covers the weights alone."""
    state, meta = load_backbone_file(backbone18)
    path = tmp_path / 'b.safetensors'
    save_backbone(path, state, meta)
    assert load_backbone_file(path)[1] == meta
    path.write_bytes(path.read_bytes().replace(b'120.0, 110.0', b'120.0, 119.0'))
    with pytest.raises(UsageError, match='its provenance does not have the sha256'):
        load_backbone_file(path)
