"""Runs that start from weights: what follows them, is checked, kept and refused."""
from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
import timm
import torch
from batches import SMALL
from starts import RESNET, SMALL_ONE, grown, train

from densessl.backbones import build_backbone, feature_maps
from densessl.cli import main
from densessl.engine.checkpoint_file import read_checkpoint
from densessl.errors import UsageError
from densessl.export.export import export_backbone
from densessl.export.start import place, read_start
from densessl.planning.start import begin, find_start
from densessl.registry import METHODS
from densessl.transfer.handoff import normalize, reference_image
from densessl.weights.backbone_file import load_backbone_file, save_backbone

pytestmark = pytest.mark.usefixtures('surroundings')


def said(folder):
    return next(folder.glob('*/*.log')).read_text()


def test_a_run_starts_with_the_weights_and_their_input(started, exported):
    """The rate is 0, so that weights after three steps are those before the first."""
    state, _ = load_backbone_file(exported)
    trained = read_checkpoint(started / 'iter_3.pth')['state_dict']
    for key, value in state.items():
        if 'running' not in key and 'num_batches' not in key:
            assert torch.equal(trained[f'backbone.{key}'], value), key
    log = said(started)
    arrived = re.search(r'start: grown.pth: 90 of 90 keys loaded; stages 1–4 of 4 compared, '
                        r'largest relative difference (\S+)', log)
    assert float(arrived[1]) <= 1e-5
    assert 'normalization.mean: 10 20 30 instead of 123.675 116.28 103.53' in log
    assert 'normalization.channel_order: BGR instead of RGB' in log


def test_a_dry_run_and_a_batch_finder_know_the_weights(exported, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ['train', 'small/simclr_r18', '--init', str(exported), '--cfg-options',
               'model.backbone=None']
    assert main([*command, '--dry-run']) == 0
    said = capsys.readouterr().out
    assert 'start: model.backbone:' in said and ', as the weights’' in said
    assert main([*command, 'views.0.size=32', 'views.1.size=32', '--find-batch',
                 '--memory-limit', '0.3']) == 0
    assert 'the largest batch that fits' in capsys.readouterr().out
    assert main(['train', 'small/simclr_r18', '--init', 'none.pth', '--dry-run']) == 2
    assert 'none.pth' in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_provenance_keeps_the_chain(started, exported, scenes, tmp_path, capsys):
    facts = read_checkpoint(started / 'iter_3.pth')['meta']['densessl']
    assert (facts['mean'], facts['channel_order']) == ([10.0, 20.0, 30.0], 'BGR')
    link, = facts['start']
    assert link['file'] == 'grown.pth' and link['data'] == 'elsewhere' and link['epochs'] == 3
    assert link['sha256'] == load_backbone_file(exported)[1]['sha256']
    assert main(['export', str(started / 'iter_3.pth'), '--out', 'one.pth']) == 0
    assert 'started from grown.pth (timm.test_resnet(), other, 3 epochs on elsewhere; sha256 ' \
        in capsys.readouterr().out
    assert train(scenes, tmp_path / 'second', '--init', 'one.pth') == 0
    newest, oldest = export_backbone(tmp_path / 'second/iter_3.pth').meta['start']
    assert (newest['file'], newest['method'], oldest) == ('one.pth', 'simclr', link)


def test_the_network_follows_the_weights_where_the_config_names_none(foreign, scenes, tmp_path):
    """Acceptance: features before the first step are the file's to 1e-5."""
    assert train(scenes, tmp_path / 'run', '--init', str(foreign), '--as',
                 'timm.mobilenetv3_small_050',
                 options=['schedule.base_lr=0']) == 0
    facts = export_backbone(tmp_path / 'run/iter_3.pth').meta
    assert facts['backbone'] == {'type': 'timm.mobilenetv3_small_050'}
    assert facts['start'][0]['imported']['file'] == 'mobile.pth'
    state, meta = load_backbone_file(tmp_path / 'run/start.pth')
    theirs = timm.create_model('mobilenetv3_small_050', num_classes=3, features_only=True,
                               out_indices=(1, 2, 3, 4))
    theirs.load_state_dict(torch.load(foreign, weights_only=True), strict=False)
    ours = METHODS.build(dict(type='simclr', backbone=facts['backbone']))
    ours.init_weights()
    begin(find_start({'init': str(tmp_path / 'run/start.pth')}, tmp_path, resume=False), ours,
          facts['backbone'])
    image = normalize(reference_image(), meta)[None]
    for a, b in zip(feature_maps(ours.backbone, image), feature_maps(theirs, image), strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()
    assert state.keys() == ours.backbone.state_dict().keys()


@pytest.mark.parametrize('library', ['timm', 'mmdet'])
def test_weights_of_another_library_are_translated(library, resnet):
    network = {'type': 'timm.resnet18'} if library == 'timm' else {'type': 'mmdet.ResNet',
                                                                   'depth': 18}
    keys, features = place(read_start(str(resnet)), network, build_backbone(network))
    assert keys.complete and max(features.differences) <= 1e-5


@pytest.mark.parametrize('name', ['byol', 'detcon', 'moco'])
def test_targets_start_as_copies(name, exported):
    torch.manual_seed(0)
    method = METHODS.build(dict(type=name, backbone=SMALL_ONE, **SMALL.get(name, {})))
    method.init_weights()
    begin(read_start(str(exported)), method, SMALL_ONE)
    state, _ = load_backbone_file(exported)
    pairs = {'target_backbone': 'backbone', 'target_projector': 'projector'}
    for target, online in pairs.items():
        theirs = method.get_submodule(online).state_dict()
        for key, value in method.get_submodule(target).state_dict().items():
            assert torch.equal(value, theirs[key]), f'{target}.{key}'
    for key, value in method.backbone.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_a_last_scale_that_starts_at_0_does_not_stay_there(resnet):
    network = {'type': 'mmdet.ResNet', 'depth': 18, 'zero_init_residual': True}
    method = METHODS.build(dict(type='simclr', backbone=network))
    method.init_weights()
    assert not method.backbone.layer1[0].bn2.weight.any()
    begin(read_start(str(resnet)), method, network)
    state, _ = load_backbone_file(resnet)
    assert torch.equal(method.backbone.layer1[0].bn2.weight, state['layer1.0.bn2.weight'])


def test_heads_of_another_run_on_demand(started, scenes, tmp_path, capsys):
    """Its projector, too; one of another width is refused."""
    for heads in (False, True):
        folder = tmp_path / f'run{heads}'
        assert train(scenes, folder, '--init', str(started / 'iter_3.pth'), options=[
            'schedule.base_lr=0', 'seed=1', f'init_heads={heads}']) == 0
        old, new = (read_checkpoint(path / 'iter_3.pth')['state_dict']['projector.0.weight']
                    for path in (started, folder))
        assert torch.equal(old, new) == heads
        assert json.dumps(export_backbone(folder / 'iter_3.pth').meta['start'][0]['heads']) == (
            str(heads).lower())
    assert train(scenes, tmp_path / 'wide', '--init', str(started / 'iter_3.pth'), options=[
        'init_heads=True', 'model.projection=8']) == 2
    assert 'other heads than the simclr of this config (' in capsys.readouterr().err


def half(path, tmp_path):
    content = path.read_bytes()
    (tmp_path / 'half.pth').write_bytes(content[:len(content) // 2])
    return tmp_path / 'half.pth'


def detector(tmp_path):
    """As MMDetection saves one: the backbone among necks and heads."""
    state = {f'backbone.{key}': value for key, value in grown(RESNET).state_dict().items()}
    others = ('neck.lateral_convs.0.conv.weight', 'rpn_head.rpn_conv.weight',
              'roi_head.bbox_head.fc_cls.weight')
    path = tmp_path / 'detector.pth'
    torch.save({'state_dict': {**state, **{key: torch.ones(2, 2) for key in others}},
                'meta': {'epoch': 1, 'cfg': 'model = dict(data_preprocessor=dict(mean=[1, 2, 3], '
                                            'std=[4, 5, 6], bgr_to_rgb=True))'}}, path)
    return path


def test_the_backbone_of_a_detector_is_found_and_said(tmp_path):
    start = read_start(str(detector(tmp_path)))
    assert start.meta['backbone'] == {'type': 'mmdet.ResNet', 'depth': 18} or (
        start.meta['backbone']['type'] == 'mmdet.ResNet')
    assert start.meta['mean'] == [1, 2, 3]
    assert any(line.startswith('dropped: 3 tensors that are not the backbone’s (neck.') for line in
               start.lines)
    _, features = place(start, RESNET, build_backbone(RESNET))
    assert max(features.differences) <= 1e-5


@pytest.mark.parametrize(('arguments', 'options', 'words'), [
    (lambda a: ['--init', a.foreign], [],
     'mobile.pth has no known layout.*name it: --as TARGET.name'),
    (lambda a: ['--init', a.foreign, '--as', 'timm.mobilenetv3_small_050'], [],
     r'holds a timm.mobilenetv3_small_050\(\), another network than the config’s torchvision.'
     r'resnet18.* add --cfg-options model.backbone=None'),
    (lambda a: ['--init', a.resnet], ['model.backbone.type=torchvision.resnet34'],
     r'resnet.pth holds a torchvision.resnet18\(\), another network.*resnet34.*missing in the fil'),
    (lambda a: ['--init', a.half], [], 'half.pth is damaged: it is cut short'),
    (lambda a: ['--init', a.nan], [], r'nan.pth is refused: \S+ holds infinities or NaN'),
    (lambda a: ['--init', a.huge], ['model.backbone=None'],
     'huge.pth: the weights are broken: on an image they compute infinities or NaN'),
    (lambda a: ['--init', a.resnet, '--dry-run'], ['model.backbone.type=torchvision.resnet34'],
     'another network than the config'),
    (lambda a: ['--init', '/dev/null'], [], 'it is a pipe, socket or device'),
    (lambda a: ['--init', 'gone.pth'], [], 'no weights to start from at gone.pth: no such file'),
    (lambda a: ['--init', '.'], [], 'it is a folder; name a file in it'),
    (lambda a: ['--init', a.exported, '--resume'], [],
     'holds no run that started from .*; leave --resume out'),
    (lambda a: ['--init', a.exported, '--as', 'timm.resnet18'], [], 'leave out --as'),
    (lambda a: ['--init', 'timm.resnet18x'], [], "unknown timm network 'resnet18x'"),
    (lambda a: ['--init', 'mmdet.ResNet'], [], 'publishes no weights for ResNet'),
    (lambda a: ['--as', 'timm.resnet18'], [], 'init_as .timm.resnet18.: .* give them with --init'),
    (lambda a: ['--init', a.resnet], ['normalization.mean=[1,2,3]'],
     r'normalization.mean=\[1, 2, 3\]: the weights .* were trained with \[10'),
    (lambda a: ['--init', a.exported], ['init_heads=True'], 'holds no heads, only a backbone'),
    (lambda a: ['--init', a.exported], ['init=other.pth'], 'contradict each other'),
    (lambda a: [], ['model.backbone=None'], 'model.backbone is None: name a network'),
    (lambda a: [], ['init=3'], 'init must be text or None, not 3'),
])
def test_bad_input_is_one_line_and_nothing_is_written(arguments, options, words, scenes, foreign,
                                                      exported, resnet, tmp_path, capsys):
    files = SimpleNamespace(foreign=str(foreign), exported=str(exported), resnet=str(resnet),
                            half=str(half(exported, tmp_path)),
                            nan=str(spoilt(exported, tmp_path / 'nan.pth', float('nan'))),
                            huge=str(spoilt(exported, tmp_path / 'huge.pth', -1.0)))
    assert train(scenes, 'run', *arguments(files), network=(), options=options) == 2
    error = capsys.readouterr().err
    assert re.search(words, error) and error.count('\n') == 1, error
    assert not (tmp_path / 'run').exists()


def spoilt(path, to, variance):
    """A copy with a valid hash, the last variance of a batch norm being another."""
    state, meta = load_backbone_file(path)
    key = next(key for key in reversed(state) if key.endswith('running_var'))
    save_backbone(to, {**state, key: torch.full_like(state[key], variance)},
                  {key: value for key, value in meta.items() if key != 'sha256'})
    return to


def test_heads_are_not_looked_for_in_what_was_exported(started, tmp_path):
    exported = export_backbone(started / 'iter_3.pth', tmp_path / 'own.pth').path
    with pytest.raises(UsageError, match=r'own.pth holds no heads, only a backbone'):
        read_start(str(exported), heads=True)


def test_published_weights_are_fetched_once_asked_and_said_where_they_are(monkeypatch, tmp_path,
                                                                         foreign):
    from densessl.transfer.target import PublishedWeights
    from densessl_plugins.timm.target import Timm

    def offline():
        raise OSError('no network')
    address = 'https://somewhere/weights.pth'
    for fetch, found in ((offline, None), (lambda: foreign, foreign)):
        monkeypatch.setattr(Timm, 'published_weights', lambda self, name, fetch=fetch: (
            PublishedWeights(address, fetch, 'some-license')))
        if found is None:
            with pytest.raises(UsageError, match=r'cannot be downloaded \(no network\); fetch '
                               + address + r' .* --as timm.mobilenetv3_small_050'):
                read_start('timm.mobilenetv3_small_050')
        else:
            start = read_start('timm.mobilenetv3_small_050')
            assert start.file == foreign and start.lines[0].endswith('license some-license')
