"""The recipe of continuing: rates per stage, heads first, frozen stages, and what a config says."""
from __future__ import annotations

import re

import pytest
import torch
from batches import SMALL
from mmengine import ConfigDict
from mmengine.optim import build_optim_wrapper

from densessl.backbones import build_backbone
from densessl.cli import main
from densessl.config import config_folders, load_config
from densessl.engine.checkpoint_file import read_checkpoint
from densessl.errors import UsageError
from densessl.planning.backbone_parts import parameters_by_stage
from densessl.planning.continuing import OFF, Continuing, check_continuing, freeze, scale_rates
from densessl.registry import METHODS
from densessl.weights.backbone_file import save_backbone

RESNET, SMALL_ONE = {'type': 'torchvision.resnet18'}, {'type': 'timm.test_resnet'}
TINY = ['views.0.size=32', 'views.1.size=32', 'model.projection=[16,8]', 'log_interval=1',
        'train_dataloader.batch_size=4', 'train_dataloader.num_workers=0']


@pytest.fixture(scope='session')
def weights(tmp_path_factory):
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp('weights') / 'weights.pth'
    save_backbone(path, build_backbone(SMALL_ONE).state_dict(), {
        'method': 'other', 'backbone': SMALL_ONE, 'mean': [120.0] * 3, 'std': [60.0] * 3,
        'channel_order': 'RGB'})
    return path


def train(scenes, weights, folder, *more, options=()):
    return main(['train', 'small/byol_r18', '--data', str(scenes), '--work-dir', str(folder),
                 '--epochs', '2', '--init', str(weights), *more, '--cfg-options', *TINY,
                 'model.backbone=None', 'continuing.follow_norms=True', *options])


def state_after(folder, step):
    return read_checkpoint(folder / f'iter_{step}.pth')['state_dict']


def moved(before, after, prefix):
    return {key.removeprefix(prefix) for key, value in after.items()
            if key.startswith(prefix) and not torch.equal(value, before[key])}


@pytest.fixture(scope='session')
def whole(scenes, weights, tmp_path_factory):
    """Six steps, the first two of the heads alone, stem and stage 1 frozen; all are kept."""
    folder = tmp_path_factory.mktemp('whole')
    assert train(scenes, weights, folder, '--freeze', '1', options=[
        'continuing.heads_first=0.34', 'checkpoint.every_epochs=0.34', 'checkpoint.keep=9']) == 0
    return folder


@pytest.mark.usefixtures('surroundings')
def test_the_heads_are_trained_alone_at_first(whole):
    two, three = state_after(whole, 2), state_after(whole, 3)
    loaded = {f'backbone.{key}': value for key, value in torch.load(
        whole / 'start.pth', weights_only=True)['state_dict'].items()}
    statistics = re.compile(r'.*(running_\w+|num_batches_tracked)')
    still = {key for key in loaded if not statistics.fullmatch(key)}
    assert not moved({key: loaded[key] for key in still}, {key: two[key] for key in still}, '')
    assert 'layer4.0.bn1.running_mean' in moved(loaded, two, 'backbone.')   # they follow
    assert moved(state_after(whole, 1), two, 'projector.')
    assert 'layer4.0.conv1.weight' in moved(two, three, 'backbone.')


@pytest.mark.usefixtures('surroundings')
@pytest.mark.parametrize('network', ['backbone.', 'target_backbone.'])
def test_frozen_stages_stay_as_loaded_with_their_statistics(network, whole):
    loaded = {f'{network}{key}': value for key, value in torch.load(
        whole / 'start.pth', weights_only=True)['state_dict'].items()}
    changed = moved(loaded, state_after(whole, 6), network)
    assert {key.partition('.')[0] for key in changed} == {'layer2', 'layer3', 'layer4'}


@pytest.mark.usefixtures('surroundings')
def test_it_goes_on_with_the_same_bits(whole, scenes, weights, tmp_path):
    part = tmp_path / 'part'
    part.mkdir()
    for name in ('iter_1.pth', 'start.pth'):
        (part / name).write_bytes((whole / name).read_bytes())
    assert train(scenes, weights, part, '--freeze', '1', '--resume',
                 options=['continuing.heads_first=0.34']) == 0
    one, two = state_after(whole, 6), state_after(part, 6)
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    for path in part.glob('iter_6.pth'):
        path.unlink()
    (part / 'iter_1.pth').write_bytes((whole / 'iter_1.pth').read_bytes())
    assert train(scenes, weights, part, '--resume', options=['continuing.heads_first=0.34']) == 2


@pytest.mark.usefixtures('surroundings')
def test_each_line_is_told_with_what_switches_it_off(whole, scenes, weights, tmp_path, capsys):
    cfg, log = load_config('small/byol_r18'), next(whole.glob('*/*.log')).read_text()
    full = cfg.schedule.base_lr * 4 / cfg.schedule.reference_batch
    tau, rate = cfg.continuing['model.tau_base'], cfg.continuing.rate
    for line in (f'model.tau_base: {tau}', f'base rate: × {rate} (continuing.rate=1.0',
                 'rates: each',
                 'heads alone: in the first 2 of 6 steps (continuing.heads_first=0.0',
                 'frozen: the stem and stage 1 (continuing.freeze=None', 'batch norms: statistics'):
        assert f'continuing: {line}' in log, line
    assert f'learning rate {rate * full:g},' in log
    off = [f'continuing.{key}={value}' for key, value in OFF.items()]
    assert train(scenes, weights, tmp_path / 'off', options=[*off, 'model.tau_base=0.5']) == 0
    out = capsys.readouterr().out
    assert f'learning rate {full:g},' in out and 'heads alone' not in out and 'rates:' not in out
    assert f'model.tau_base 0.5 instead of {cfg.model.tau_base}' in out


@pytest.mark.parametrize('constructor', ['ExcludeBiasAndNorm', 'DefaultOptimWrapperConstructor'])
def test_rates_per_stage(constructor):
    method = METHODS.build(dict(type='simclr', backbone=RESNET))
    wrapper = build_optim_wrapper(method, ConfigDict(
        type='OptimWrapper', constructor=constructor, optimizer=dict(type='SGD', lr=2.0)))
    trained = {p for p in method.parameters() if p.requires_grad}
    scale_rates(wrapper, method, Continuing(layer_decay=0.5))
    rates = {p: group['lr'] for group in wrapper.optimizer.param_groups for p in group['params']}
    assert trained <= set(rates)
    for i, names in enumerate(parameters_by_stage(method.backbone)):
        for name in names:      # the stem's is 2 · 0.5⁵, the last stage's 2 · 0.5
            assert rates[method.backbone.get_parameter(name)] == 2 * 0.5 ** (5 - i), name
    assert all(rates[p] == 2 for p in method.projector.parameters() if p in rates)
    assert wrapper.optimizer.param_groups[0]['lr'] == 2 and not (
        wrapper.optimizer.param_groups[0]['backbone'])


def test_more_stages_than_there_are_cannot_be_frozen():
    method = METHODS.build(dict(type='simclr', backbone=RESNET))
    with pytest.raises(UsageError, match='--freeze 5: the backbone has 4 stages; give 0'):
        freeze(method, Continuing(freeze=5))


@pytest.mark.parametrize(('table', 'words'), [
    ({'heads_frist': 0.1}, "unknown key 'heads_frist' in continuing (did you mean 'heads_first'"),
    ({'heads_first': 2}, 'continuing.heads_first must be a number from 0 to 1'),
    ({'layer_decay': 0}, 'continuing.layer_decay must be a number above 0'),
    ({'rate': -1}, 'continuing.rate must be a number above 0'),
    ({'freeze': -1}, 'continuing.freeze must be a whole number of at least 0 or None'),
    ({5: 1}, 'continuing: 5 cannot stand there; it takes heads_first, layer_decay, rate'),
    ({'continuing.rate': 1}, "continuing: 'continuing.rate' cannot stand there"),
    ({'rate': 1e300}, 'continuing.rate must be a number above 0 and at most 1000000'),
    ({'follow_norms': 1}, 'continuing.follow_norms must be True or False'),
])
def test_wrong_tables_are_refused(table, words):
    with pytest.raises(UsageError) as refused:
        check_continuing({'continuing': table})
    assert words in str(refused.value)


@pytest.mark.usefixtures('surroundings')
@pytest.mark.parametrize(('more', 'options', 'words'), [
    (['--freeze', '9'], [], '--freeze 9: the backbone has 4 stages'),
    (['--freeze', '-1'], [], 'continuing.freeze must be a whole number of at least 0'),
    (['--freeze', '1'], ['continuing.freeze=2'], '--freeze 1 contradict each other'),
    ([], ["continuing={'model.tau_base.x':1}"], "continuing: 'model.tau_base.x' leads to nothing"),
    ([], ["continuing={'views.5.size':3}"], "continuing: 'views.5.size' leads to nothing"),
    ([], ['continuing={5:1}'], 'continuing: keys must be text, and in {5: 1} one is not'),
])
def test_bad_input_is_one_line_and_nothing_is_written(more, options, words, scenes, weights,
                                                      tmp_path, capsys):
    assert train(scenes, weights, 'run', *more, options=options) == 2
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1, error
    assert not (tmp_path / 'run').exists()


@pytest.mark.usefixtures('surroundings')
def test_without_weights_the_recipe_is_none_of_the_run(scenes, tmp_path, capsys):
    command = ['train', 'small/byol_r18', '--data', str(scenes), '--work-dir', 'run', '--epochs',
               '1']
    assert main([*command, '--freeze', '1', '--cfg-options', *TINY]) == 2
    assert '--freeze is for stages that are loaded: give the weights with --init' in (
        capsys.readouterr().err)
    assert main([*command, '--cfg-options', *TINY]) == 0
    checkpoint = read_checkpoint('run/iter_3.pth')
    assert not any('continuing' in key for key in checkpoint['meta']['identity'])
    cfg = load_config('small/byol_r18')
    assert f'learning rate {cfg.schedule.base_lr * 4 / cfg.schedule.reference_batch:g},' in (
        capsys.readouterr().out)


def test_every_pretraining_config_has_a_recipe_of_continuing():
    folder = config_folders()[0]
    for path in [*folder.glob('*_r50.py'), *folder.glob('small/*_r18.py')]:
        cfg = load_config(str(path))
        check_continuing(cfg)
        assert set(OFF) <= set(cfg.continuing), path
        for key in cfg.continuing:
            name = key.removeprefix('model.')
            assert name in OFF or name in cfg.model, (path, key)


@pytest.mark.parametrize('name', ['byol', 'detcon', 'moco'])
def test_batch_norms_that_keep_their_statistics(name):
    from densessl.planning.continuing import _kept_norms
    method = METHODS.build(dict(type=name, backbone=SMALL_ONE, **SMALL.get(name, {})))
    assert len(list(_kept_norms(method, Continuing()))) == 0
    assert len(list(_kept_norms(method, Continuing(follow_norms=False)))) == 2 * 15
    assert len(list(_kept_norms(method, Continuing(freeze=0)))) == 2 * 3
