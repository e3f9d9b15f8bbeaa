"""Files of weights and records that are damaged or made to hurt: one line each."""
import json
import random
import resource
import sys
import zipfile

import pytest
import torch
from PIL import Image
from small_runs import provenance

from densessl.backbones import build_backbone
from densessl.cli import main
from densessl.errors import UsageError, shown
from densessl.export.export import export_backbone
from densessl.export.foreign import Foreign, read_foreign
from densessl.files.json_files import MAX_NESTING, parse_json
from densessl.finetune.predict import open_finetuned
from densessl.weights.backbone_file import (
    load_backbone_file,
    load_foreign,
    load_weights_only,
    save_backbone,
    weights_hash,
)

DEEP = '[' * 100_000
SMALL = {'conv1.weight': torch.arange(6.).reshape(2, 3), 'bn1.n': torch.tensor(3)}


def written(path, state, **changes):
    meta = {**provenance({'type': 'torchvision.resnet18'}), 'sha256': '0' * 64, **changes}
    torch.save({'state_dict': state, 'meta': meta}, path)
    return path


def peak():
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# -- tensors ---------------------------------------------------------------------------------------

@pytest.mark.parametrize(('state', 'words'), [
    ({'w': torch.zeros(1).expand(1 << 33)}, 'its tensors would take 34.4 GB'),
    ({f'{i}': torch.zeros(1).expand(1 << 23) for i in range(50)}, 'its tensors would take'),
    ({'w': torch.zeros(2, 2).to_sparse()}, 'its tensor state_dict.w is sparse'),
    ({'w': torch.zeros(2, 2).to_sparse_csr()}, 'is sparse'),
    ({'w': torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.quint8)}, 'is quantized'),
    ({'w': torch.zeros(2, device='meta')}, 'on the device meta'),
    ({'w': torch.zeros(2), 'x': 5}, 'has a int under x'), ({7: torch.zeros(2)}, 'for a name'),
    ({'w': {'x': torch.zeros(2)}}, 'has a dict under w'), ({'w': None}, 'has a NoneType under w'),
])
def test_odd_tensors_are_one_line(state, words, tmp_path, capsys):
    path = written(tmp_path / 'b.pth', state)
    for command in (['probe', str(path), '--data', '.'],
                    ['export', str(path), '--out', str(tmp_path / 'o.pth')],
                    ['finetune', 'downstream/fcn_r18_folder', '--backbone', str(path)]):
        assert main(command) == 2
        error, = capsys.readouterr().err.strip().splitlines()
        assert words in error and len(error) < 600
    assert peak() < 8000


@pytest.mark.parametrize('state', [
    {'a': torch.zeros(1).expand(5), 'b': torch.zeros(3, 4).t(), 'c': torch.zeros(0, 3)},
    {'a': torch.tensor([1 + 2j]), 'b': torch.tensor(True), 'c': torch.zeros(2, dtype=torch.half)},
    {'a': torch.tensor([1 + 2j]).conj(), 'b\ud800': torch.zeros(1, dtype=torch.bfloat16)},
])
def test_small_odd_tensors_are_read_as_they_are(state, tmp_path):
    path = written(tmp_path / 'b.pth', state, sha256=weights_hash(state))
    found, _ = load_backbone_file(path)
    assert all(torch.equal(found[key], value) for key, value in state.items())


def test_a_packed_file_is_not_unpacked(tmp_path):
    path = written(tmp_path / 'plain.pth', {'w': torch.zeros(1 << 24)})
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(
            tmp_path / 'b.pth', 'w', zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    for read in (load_backbone_file, load_foreign):
        with pytest.raises(UsageError, match=r'it has 0\.1 MB, but unpacks to 67\.1 MB'):
            read(tmp_path / 'b.pth')


def test_containers_without_end_are_refused(tmp_path):
    deep, ring, wide = {}, {}, {}
    inner = deep
    for _ in range(500):
        inner['x'] = {}
        inner = inner['x']
    ring['x'] = ring
    doubled = {'t': torch.zeros(1)}
    for _ in range(60):
        doubled = {'a': doubled, 'b': doubled}
    wide['x'] = doubled
    limit = sys.getrecursionlimit()
    for content in (deep, ring, wide):
        sys.setrecursionlimit(10_000)       # of the one who writes it
        torch.save({'state_dict': content}, tmp_path / 'c.pth')
        sys.setrecursionlimit(limit)
        for read in (load_weights_only, lambda path: load_foreign(path)[0]):
            with pytest.raises(UsageError, match='holds more than 200000 lists and dicts'):
                read(tmp_path / 'c.pth')


# -- safetensors -----------------------------------------------------------------------------------

def safetensors(path, metadata, state=None):
    from safetensors.torch import save
    path.write_bytes(save(state or SMALL, metadata=metadata))
    return path


@pytest.mark.parametrize(('about', 'words'), [
    ('{', 'its provenance is not JSON'), (DEEP, 'its provenance is not JSON (it is nested too'),
    ('{"a": 1' + '0' * 5000 + '}', 'not JSON'), ('[1]', 'not an exported backbone'),
    ('5', 'not an exported backbone'), ('null', 'not an exported backbone'), ('', 'not JSON'),
    ('{"sha256": 5}', 'does not say the method'), ('"x"', 'not an exported backbone'),
    (json.dumps({**provenance(5), 'sha256': '0' * 64}), 'backbone = 5'),
    (json.dumps({**provenance({'type': 'torchvision.resnet18'}), 'sha256': '0' * 64}), 'damaged'),
])
def test_damaged_metadata_is_one_line(about, words, tmp_path, capsys):
    path = safetensors(tmp_path / 'b.safetensors', {'densessl': about})
    assert main(['probe', str(path), '--data', '.']) == 2
    error, = capsys.readouterr().err.strip().splitlines()
    assert words in error


# -- fuzz: any change of some bytes ends in a line, or is none ------------------------------------

def changes_of(data, count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(rng.choice([1, 1, 2, 8])):
            at = rng.randrange(len(changed))
            kind = rng.random()
            if kind < 0.6:
                changed[at] = rng.randrange(256)
            elif kind < 0.8:
                del changed[at:at + rng.randrange(1, 40)]
            else:
                changed[at:at] = rng.choice([b'\0' * 8, b'\xff' * 8, DEEP[:300].encode(), b'}'])
            if not changed:
                break
        yield bytes(changed)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors', '.bin'])
def test_any_damage_to_weights_is_one_line(suffix, tmp_path):
    path = tmp_path / f'b{suffix}'
    if suffix == '.bin':       # PyTorch's format before it was a zip
        torch.save({'state_dict': SMALL, 'meta': {'x': 1}}, path,
                   _use_new_zipfile_serialization=False)
    else:
        save_backbone(path, SMALL, provenance({'type': 'torchvision.resnet18'}))
    good = path.read_bytes()
    for data in changes_of(good, 250, seed=len(suffix)):
        path.write_bytes(data)
        for read in (load_backbone_file, load_weights_only, load_foreign):
            try:
                read(path)
            except UsageError as error:
                assert str(error).splitlines()[1:] == [], str(error)


def test_any_odd_shapes_of_somebody_elses_weights_are_one_line(tmp_path):
    rng = random.Random(0)
    good = [build_backbone(cfg).state_dict() for cfg in (
        {'type': 'torchvision.resnet18'},
        {'type': 'timm.vit_tiny_patch16_224', 'depth': 1, 'img_size': 32},
        {'type': 'timm.convnext_atto', 'depths': (1, 1, 1, 1), 'dims': (4, 4, 4, 4)})]
    telling = ['conv1.weight', 'layer1.0.conv2.weight', 'patch_embed.proj.weight', 'pos_embed',
               'blocks.0.mlp.fc1.weight', 'stem.0.weight']
    for _ in range(20):
        state = dict(rng.choice(good))
        for key in rng.sample([key for key in telling if key in state], 1):
            state[key] = torch.rand(rng.choice([(), (0,), (3,), (0, 3, 7, 7), (2, 2), (10, 10, 1)]))
        if rng.random() < 0.3:
            state[rng.choice(['', '.', 'a\nb', 'x' * 3000])] = torch.rand(2)
        torch.save({'state_dict': state}, tmp_path / 'c.pth')
        with pytest.raises(UsageError) as error:
            read_foreign(tmp_path / 'c.pth', Foreign())
        assert str(error.value).isprintable()


# -- JSON ------------------------------------------------------------------------------------------

def test_json_is_bounded():
    assert parse_json('{"a": [1, {"b": null}]}') == {'a': [1, {'b': None}]}
    for text in (DEEP, '{"a":' * 3000 + '1' + '}' * 3000, '[' * 200 + ']' * 200, b'\xff',
                 '1' * 9999, '{"a": {"b": 1, "c": 2, "b": 1}}'):
        with pytest.raises(ValueError):
            parse_json(text)
    assert parse_json('[' * MAX_NESTING + ']' * MAX_NESTING)


def test_anything_can_be_shown():
    ring = []
    ring.append(ring)
    for value in (ring, 10 ** 9999, 'x' * 10 ** 6, '\x1b[2J', b'\0' * 999, torch.zeros(3), print,
                  {'a': [torch.zeros(3)] * 100}, float('nan'), {1, 2}, '\ud800', None):
        assert shown(value).isprintable() and len(shown(value)) < 200


# -- work folders ----------------------------------------------------------------------------------

@pytest.fixture
def run_folder(tmp_path):
    """A work folder whose own config says when it is executed, beside a newer one that is not its
    own."""
    folder = tmp_path / 'run'
    folder.mkdir()
    torch.save({'state_dict': {}, 'meta': {'dataset_meta': {'classes': ['a']}}},
               folder / 'iter_1.pth')
    for name in ('own', 'newer'):
        (folder / f'{name}.py').write_text(
            f'open({str(tmp_path / name)!r}, "w").close()\ndefault_scope = "mmseg"\n')
    (folder / 'run.json').write_text(json.dumps({'config': 'own'}))
    return folder


def test_predict_executes_the_config_that_its_run_recorded(run_folder, tmp_path):
    with pytest.raises(UsageError, match=r'own\.py is not a downstream config'):
        open_finetuned(run_folder)
    assert (tmp_path / 'own').exists() and not (tmp_path / 'newer').exists()


@pytest.mark.parametrize(('record', 'words'), [
    (None, 'there is no run.json'), ('{}', 'its config is None'), ('{', 'is damaged'),
    (DEEP, 'nested too deeply'), ('[]', 'not a JSON object'), ('{"config": 5}', 'its config is 5'),
    ('{"config": "../own"}', "its config is '../own'"), ('{"config": ""}', "its config is ''"),
    ('{"config": "/tmp/own"}', 'not the name of a config'), ('{"config": "."}', 'damaged'),
    ('{"config": ".."}', 'its config is'), ('{"config": "gone"}', 'there is no gone.py'),
])
def test_no_other_config_is_executed(record, words, run_folder, tmp_path, capsys):
    (run_folder / 'run.json').unlink()
    if record is not None:
        (run_folder / 'run.json').write_text(record)
    (tmp_path / 'photos').mkdir()
    Image.new('RGB', (8, 8)).save(tmp_path / 'photos' / 'a.png')
    assert main(['predict', str(run_folder), str(tmp_path / 'photos'), '--out',
                 str(tmp_path / 'o')]) == 2
    error, = capsys.readouterr().err.strip().splitlines()
    assert words in error
    assert not (tmp_path / 'own').exists() and not (tmp_path / 'newer').exists()


def test_what_others_put_beside_an_export_is_no_reason_to_fail(checkpoint18, tmp_path):
    torch.save({'meta': [5], 'state_dict': {}}, tmp_path / 'b.pth')
    with pytest.raises(UsageError, match='holds something else'):
        export_backbone(checkpoint18, tmp_path / 'b.pth')
