"""Provenance is data: no file of weights makes a command import, open, fetch or run anything."""
import random
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_runs import provenance

from densessl.backbones import LOADING, target_names
from densessl.cli import main
from densessl.errors import UsageError
from densessl.registry import TRANSFER_TARGETS
from densessl.weights.backbone_file import save_backbone, weights_hash
from densessl.weights.provenance import check_provenance, describe

FILE = Path('some/backbone.pth')
# What importing, opening, fetching and executing are called by the interpreter itself.
EVENTS = ('import', 'open', 'exec', 'compile', 'subprocess', 'os.system', 'os.exec', 'os.spawn',
          'os.posix_spawn', 'os.fork', 'os.startfile', 'socket', 'urllib', 'http', 'ftplib',
          'pickle', 'marshal', 'ctypes', 'shutil', 'tempfile', 'glob', 'os.listdir', 'os.scandir')
_heard, _listening = [], []


def _hear(event, arguments):
    if _listening and event.startswith(EVENTS):
        _heard.append((event, str(arguments)[:200]))


sys.addaudithook(_hear)     # for the life of the process: there is no way to take it back


@contextmanager
def nothing_is_touched():
    """Nothing within is allowed to import, open, fetch or execute."""
    before = set(sys.modules)
    _heard.clear()
    _listening.append(True)
    try:
        yield
    finally:
        _listening.clear()
    assert not _heard and set(sys.modules) == before


@pytest.fixture(scope='module', autouse=True)
def libraries():
    """Loaded before: that reading imports the installed library itself is as it should be."""
    for name in target_names():
        target = TRANSFER_TARGETS.get(name)()
        kind = next(iter(target.backbone_names()))
        target.backbone_arguments(kind, {'pretrained': False})
        target.layer_types()


NAMES = ['os.system', 'builtins.eval', 'builtins.exec', 'subprocess.Popen', 'torch.load',
         'torch.hub.load', 'posix.system', 'mmengine.fileio.load', 'timm.create_model',
         'densessl.cli.main', 'antigravity', 'this', 'os', 'Pretrained', 'PretrainedInit']
PLACES = ['/etc/passwd', '../../x.pth', 'x.pth', 'file:///etc/passwd', 'http://127.0.0.1:9/x.pth',
          'hf_hub:a/b', 'hf-hub:a/b', 'local-dir:/tmp/x', 'open-mmlab://resnet50', 's3://a/b',
          'torchvision://resnet50', 'mmcls.ResNet', 'C:\\x.pth', '\\\\host\\x', '~/x', '$HOME/x']
LEGIT = ['ResNet', 'BN', 'GN', 'ReLU', 'Conv2d', 'pytorch', 'caffe', 'groupnorm', 'resnet18']
KEYS = ['type', 'init_cfg', 'pretrained', 'weights', 'checkpoint_path', 'checkpoint', 'norm_cfg',
        'act_cfg', 'conv_cfg', 'plugins', 'dcn', 'depth', 'model_name', 'norm_layer', '_scope_',
        '_delete_', 'cfg', 'backbone_cfg', 'features_only', 'pretrained_cfg', 'url', 'a.b', '']
KINDS = [f'{target}.{name}' for target in ('mmdet', 'mmseg', 'timm', 'torchvision', 'os', '')
         for name in ('ResNet', 'resnet18', 'TIMMBackbone', 'VPD', 'BiSeNetV1', *NAMES, *PLACES)]
BASES = [{'type': 'mmdet.ResNet', 'depth': 18, 'norm_cfg': {'type': 'BN', 'requires_grad': True},
          'plugins': [{'cfg': {'type': 'ContextBlock', 'ratio': 0.25}, 'stages': [True, False]}]},
         {'type': 'mmseg.BiSeNetV1', 'backbone_cfg': {'type': 'ResNet', 'depth': 18}},
         {'type': 'mmseg.TIMMBackbone', 'model_name': 'resnet18', 'pretrained': False},
         {'type': 'timm.resnet18', 'norm_layer': 'groupnorm'},
         {'type': 'torchvision.resnet18', 'norm': 'layer'}]
ODD = [None, True, 0, -1, 3, 2 ** 70, 0.5, float('nan'), float('inf'), b'x', {1}, print, Path,
       torch.zeros(2), torch.float32, 1j, 'x' * 5000, 'a\nb', '\x1b[31m', '\udc80']


def random_value(rng, depth):
    kind = rng.random()
    if depth and kind < 0.35:
        return {rng.choice(KEYS): random_value(rng, depth - 1) for _ in range(rng.randrange(4))}
    if depth and kind < 0.5:
        return [random_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return rng.choice(rng.choice([NAMES, PLACES, LEGIT, ODD, KINDS]))


def mutated(rng, value):
    """``value`` with one place in it replaced, or something added there."""
    if isinstance(value, dict) and rng.random() < 0.8:
        key = rng.choice([*value, rng.choice(KEYS)])
        return {**value, key: mutated(rng, value[key]) if key in value else random_value(rng, 2)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        i = rng.randrange(len(value))
        return [*value[:i], mutated(rng, value[i]), *value[i + 1:]]
    return random_value(rng, 3)


def is_harmless(value, top=True):
    """Written anew from the rule: plain values, no name that could be looked up elsewhere, no key
    that loads."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and key.isidentifier() and key[0] != '_'
                   and (key not in LOADING or one in (None, False))
                   and (is_harmless(one, False) or (top and key == 'type'))
                   for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return all(is_harmless(one, False) for one in value)
    if isinstance(value, str):
        return not set(value) & set('./\\:~$\n\0') and value not in ('antigravity', 'this')
    return value is None or isinstance(value, (bool, int, float))


def check(meta):
    """Whether ``meta`` passes; nothing may be touched, and no other error come up."""
    with nothing_is_touched():
        try:
            check_provenance(meta, FILE)
        except UsageError as error:
            text = str(error)
            assert text.isprintable() and len(text) < 3000 and str(FILE) in text
            return False
    return True


def test_a_thousand_random_configurations_touch_nothing():
    rng, passed = random.Random(0), 0
    for number in range(1000):
        cfg = mutated(rng, rng.choice(BASES)) if number % 2 else {
            'type': rng.choice(KINDS), **{rng.choice(KEYS[1:]): random_value(rng, 4)
                                          for _ in range(3)}}
        if check(provenance(cfg)):
            passed += 1
            assert is_harmless(cfg), cfg
    assert 10 < passed < 300, 'the check refuses everything, or nothing'


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30),
              st.binary(max_size=5), st.sampled_from(NAMES + PLACES + LEGIT + KINDS)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(
        st.one_of(st.sampled_from(KEYS), st.text(max_size=8)), inner, max_size=4)), max_leaves=12)


@settings(max_examples=80, deadline=None, derandomize=True,
          suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.one_of(st.sampled_from([
    'method', 'backbone', 'mean', 'std', 'channel_order', 'epochs', 'data', 'sha256', 'imported',
    'masks', 'keys']), st.text(max_size=8)), plain, max_size=5))
def test_any_provenance_is_refused_or_can_be_used(changes):
    meta = {**provenance({'type': 'torchvision.resnet18'}), **changes}
    if check(meta):
        assert is_harmless(meta['backbone']) and describe(meta).isprintable()
        assert len(meta['mean']) == 3 and min(meta['std']) > 0
        assert meta['channel_order'] in ('RGB', 'BGR')


HOSTILE = [
    ({'type': 'mmdet.boobytrap.Trap'}, 'backbone.type'),
    ({'type': 'mmdet.ResNet', 'depth': 18, 'norm_cfg': {'type': 'boobytrap.Trap'}},
     'norm_cfg.type'),
    ({'type': 'mmseg.ResNet', 'depth': 18, 'act_cfg': {'type': 'boobytrap.Trap'}}, 'act_cfg'),
    ({'type': 'mmdet.ResNet', 'depth': 18, 'conv_cfg': {'type': 'boobytrap.Trap'}},
     'conv_cfg.type'),
    ({'type': 'mmdet.ResNet', 'depth': 18, 'init_cfg': {'type': 'boobytrap.Trap'}}, 'init_cfg'),
    ({'type': 'mmdet.ResNet', 'depth': 18, 'pretrained': 'TRAP'}, 'pretrained'),
    ({'type': 'mmdet.ResNet', 'depth': 18,
      'plugins': [{'cfg': {'type': 'boobytrap.Trap'}, 'stages': [True] * 4}]}, 'cfg.type'),
    ({'type': 'mmdet.ResNet', 'depth': 18, '_scope_': 'boobytrap'}, '_scope_'),
    ({'type': 'mmseg.BiSeNetV1', 'backbone_cfg': {'type': 'boobytrap.Trap'}}, 'backbone_cfg.type'),
    ({'type': 'mmseg.BiSeNetV1', 'backbone_cfg': {'type': 'TIMMBackbone', 'model_name': 'vgg11'}},
     'backbone_cfg.type'),
    ({'type': 'mmseg.TIMMBackbone', 'model_name': 'resnet18', 'pretrained': False,
      'norm_layer': 'boobytrap'}, 'norm_layer'),
    ({'type': 'mmseg.TIMMBackbone', 'model_name': 'resnet18', 'pretrained': False,
      'checkpoint_path': 'TRAP'}, 'checkpoint_path'),
    ({'type': 'mmseg.TIMMBackbone', 'model_name': 'resnet18'}, 'pretrained must be False'),
    ({'type': 'timm.resnet18', 'checkpoint_path': 'TRAP'}, 'checkpoint_path'),
    ({'type': 'timm.resnet18', 'pretrained': True}, 'pretrained'),
    ({'type': 'timm.resnet18', 'pretrained_cfg': {'file': 'TRAP'}}, 'pretrained_cfg'),
    ({'type': 'timm.local-dir:TRAP'}, 'backbone.type'),
    ({'type': 'timm.hf_hub:a/b'}, 'backbone.type'),
    ({'type': 'torchvision.resnet18', 'weights': 'DEFAULT'}, 'weights'),
    ({'type': 'torchvision.segmentation.fcn_resnet50'}, 'backbone.type'),
]


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module on the path, and a pickle, that leave a trace when they are imported or opened."""
    trace = tmp_path / 'trace'
    (tmp_path / 'boobytrap.py').write_text(
        f'open({str(trace)!r}, "w").close()\nclass Trap:\n    def __init__(self, *a, **k): pass\n')
    monkeypatch.syspath_prepend(tmp_path)

    class Evil:
        def __reduce__(self):
            return (open, (str(trace), 'w'))

    torch.save({'state_dict': {'x': Evil()}}, tmp_path / 'trap.pth')
    yield tmp_path / 'trap.pth', trace
    sys.modules.pop('boobytrap', None)


def filled(value, trap):
    if isinstance(value, dict):
        return {key: filled(one, trap) for key, one in value.items()}
    return value.replace('TRAP', str(trap)) if isinstance(value, str) else value


@pytest.mark.parametrize(('cfg', 'key'), HOSTILE, ids=[
    f'{cfg["type"].replace("/", "-")}-{key}' for cfg, key in HOSTILE])
def test_no_file_runs_or_loads_anything(cfg, key, trap, tmp_path, capsys):
    path, trace = trap
    state = {'conv1.weight': torch.zeros(2)}
    meta = {**provenance(filled(cfg, path)), 'sha256': weights_hash(state)}
    torch.save({'state_dict': state, 'meta': meta}, tmp_path / 'b.pth')
    torch.save({'state_dict': {'backbone.w': torch.zeros(1)}, 'meta': {'densessl': meta}},
               tmp_path / 'iter_1.pth')
    save_backbone(tmp_path / 'b.safetensors', state, meta)
    for name in ('b.pth', 'b.safetensors'):
        assert main(['probe', str(tmp_path / name), '--data', str(tmp_path), '--kind', 'knn']) == 2
        assert key in one_line(capsys)
    for name in ('b.pth', 'iter_1.pth'):
        assert main(['export', str(tmp_path / name), '--out', str(tmp_path / 'o.pth'), '--to',
                     'mmdet']) == 2
        assert key in one_line(capsys)
    assert not trace.exists() and 'boobytrap' not in sys.modules
    assert not (tmp_path / 'o.pth').exists()


@pytest.mark.parametrize('command', ['finetune', 'like', 'benchmark', 'random'])
def test_other_commands_refuse_it_in_the_same_words(command, trap, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, trace = trap
    state = {'conv1.weight': torch.zeros(2)}
    torch.save({'state_dict': state, 'meta': {
        **provenance({'type': 'mmdet.boobytrap.Trap'}), 'sha256': weights_hash(state)}}, 'b.pth')
    config = 'downstream/fcn_r18_folder'
    assert main({
        'finetune': ['finetune', config, '--backbone', 'b.pth', '--data-root', '.'],
        'like': ['finetune', config, '--backbone', 'random', '--like', 'b.pth'],
        'benchmark': ['benchmark', config, '--backbones', 'a=b.pth', '--data-root', '.',
                      '--fractions', '1'],
        'random': ['probe', 'random', 'b.pth', '--data', '.', '--kind', 'knn'],
    }[command]) == 2
    assert 'backbone.type = ' in one_line(capsys)
    assert not trace.exists()


def one_line(capsys):
    error, = capsys.readouterr().err.strip().splitlines()
    return error


@pytest.mark.parametrize(('key', 'value'), [
    ('method', 5), ('method', None), ('method', 'x' * 2000), ('mean', 'abc'), ('mean', [1, 2]),
    ('mean', [1, 2, float('nan')]), ('std', [1, 0, 1]), ('std', [1, -1, 1]), ('std', [1, 1, True]),
    ('std', {'a': 1}), ('channel_order', 'rgb'), ('channel_order', ['RGB']), ('epochs', 'many'),
    ('epochs', float('inf')), ('data', 7), ('data', ['x']), ('sha256', 5), ('sha256', 'ab'),
    ('imported', 'x'), ('imported', {'file': 3}), ('imported', {'file': 'x', 'layout': 'y'}),
    ('backbone', None), ('backbone', 'torchvision.resnet18'), ('backbone', {}),
    ('backbone', {'type': 5}), ('backbone', {'type': 'torchvision.resnet18', 'depth': 5}),
    ('backbone', {'type': 'torchvision.resnet18', 'width': 10 ** 30}), ('masks', {'a': 1}),
    ('images', -1), ('seed', 'x'), ('more', {'a': torch.zeros(1)}), ('more', b'x'),
])
def test_a_value_of_the_wrong_type_is_named(key, value, checkpoint18, tmp_path, capsys):
    content = torch.load(checkpoint18, weights_only=True)
    content['meta']['densessl'][key] = value
    torch.save(content, tmp_path / 'iter_1.pth')
    assert main(['export', str(tmp_path / 'iter_1.pth')]) == 2
    error = one_line(capsys)
    assert f'{key}' in error and 'it must be' in error and len(error) < 2000
    assert not (tmp_path / 'backbone.pth').exists()


def test_control_characters_are_spelt_out(make_checkpoint, tmp_path, capsys):
    path = make_checkpoint({'type': 'torchvision.resnet18'}, data='a\x1b[2Jb\nc', method='m\rn')
    assert main(['export', str(path)]) == 0
    assert 'm\\rn, 2 epochs on a\\x1b[2Jb\\nc' in capsys.readouterr().out
