"""Overrides are held against the types that the parts of a config have with them."""
from __future__ import annotations

import copy

import pytest
from mmengine import Config

from densessl.config import load_config
from densessl.errors import UsageError
from densessl.finetune.downstream_config import arguments_in, check_values, read_downstream_config
from densessl.finetune.schedule import check_warmups
from densessl.overrides import apply_overrides, leaves, replaced_overrides, settle_types
from densessl.planning.configured import configure, refuse_twice_said

TWIN, DETECTOR = 'downstream/fcn_r18_folder', 'downstream/faster_rcnn_c4_r18_voc'
ADAMW = {'optim_wrapper.optimizer.type': 'AdamW', 'optim_wrapper.optimizer.betas': [0.9, 0.99]}


@pytest.fixture(scope='module')
def published():
    """The configs as they are, read once: that takes seconds."""
    return {config: read_downstream_config(config)[0] for config in (TWIN, DETECTOR)}


def overridden(published, options):
    """A config with overrides, checked as ``read_downstream_config`` does."""
    cfg = copy.deepcopy(published)
    apply_overrides(cfg, options)
    settle_types(cfg, published, options, arguments_in(published))
    check_values(cfg, published, options)
    check_warmups(cfg.param_scheduler, cfg.train_cfg.get('max_iters'), None)
    return cfg


@pytest.mark.parametrize('config', [TWIN, DETECTOR])
@pytest.mark.parametrize('options', [
    {'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.loss_scale': 'dynamic'},
    {'optim_wrapper.loss_scale': 'dynamic', 'optim_wrapper.type': 'AmpOptimWrapper'},
    {'optim_wrapper.clip_grad.max_norm': 5, 'optim_wrapper.clip_grad.norm_type': 2},
    {'optim_wrapper.paramwise_cfg.norm_decay_mult': 0.0},
    {'optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult': 0.1},
    {'optim_wrapper.constructor': 'LearningRateDecayOptimizerConstructor',
     'optim_wrapper.paramwise_cfg.num_layers': 12},
    ADAMW])
def test_what_the_new_type_takes_is_accepted(config, options, published):
    cfg = overridden(published[config], options)
    for key, value in options.items():
        node = cfg
        for part in key.split('.'):
            node = node[part]
        assert node == value


def test_what_the_old_type_had_is_left_out_and_said(capsys):
    cfg, _ = read_downstream_config(TWIN, ADAMW)
    assert 'momentum' not in cfg.optim_wrapper.optimizer and cfg.optim_wrapper.optimizer.lr > 0
    assert 'optim_wrapper.optimizer.momentum=0.9 is left out: AdamW' in capsys.readouterr().out


def test_a_part_of_the_model_gets_another_type(published):
    cfg = overridden(published[TWIN], {'model.decode_head.type': 'PSPHead',
                                       'model.decode_head.pool_scales': [1, 2]})
    assert cfg.model.decode_head.pool_scales == [1, 2] and 'num_convs' not in cfg.model.decode_head


@pytest.mark.parametrize('options, words', [
    ({'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.los_scale': 1},
     r"'los_scale' in optim_wrapper \(AmpOptimWrapper\) \(did you mean 'loss_scale'\?\)"),
    ({'optim_wrapper.loss_scale': 'dynamic'}, r"unknown key 'loss_scale' in optim_wrapper"),
    ({**ADAMW, 'optim_wrapper.optimizer.momentum': 0.5}, r"'momentum' in .* \(AdamW\)"),
    ({**ADAMW, 'optim_wrapper.optimizer.beta': 0.5}, "did you mean 'betas'"),
    ({'optim_wrapper.clip_grad.max_nrm': 5}, "did you mean 'max_norm'"),
    ({'optim_wrapper.clip_grad.max_norm': -1}, 'clip_grad.max_norm must be a number above 0'),
    ({'optim_wrapper.clip_grd.max_norm': 5}, "did you mean 'clip_grad'"),
    ({'optim_wrapper.paramwise_cfg.norm_decay': 0}, "did you mean 'norm_decay_mult'"),
    ({'optim_wrapper.optimizer.momentum': float('nan')}, 'optimizer.momentum must be a number'),
    ({'model.decode_head.type': 'PSPHead', 'model.decode_head.num_convs': 1}, r'\(PSPHead\)'),
    ({'train_cfg.max_iter': 1}, "did you mean 'max_iters'"),
    ({'_nothing.size': 3}, "nothing reads '_nothing' after the config file has been read"),
    ({'custom_imports.imports': ['x']}, 'custom_imports: modules are imported when'),
    ({'work_dir': 'x'}, 'add --work-dir'), ({'load_from': 'x'}, 'add --backbone'),
    ({'randomness.seed': 1}, 'add --seed'), ({'launcher': 'none'}, 'add --launcher'),
    ({'default_hooks.checkpoint.interval': 0}, 'checkpoint.interval must be a whole'),
    ({'default_hooks.checkpoint.max_keep_ckpts': 0}, 'max_keep_ckpts must be a whole'),
    ({'default_hooks.logger.interval': 0}, 'logger.interval must be a whole number from 1'),
    ({'train_dataloader.batch_size': 10 ** 12}, 'batch_size must be a whole number from 1 to 655'),
    ({'param_scheduler': [{'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False,
                           'begin': 0, 'end': 10 ** 6}]}, 'the warm-up is longer than the run of'),
])
def test_what_no_type_takes_is_refused_with_the_closest(options, words, published):
    with pytest.raises(UsageError, match=words) as error:
        overridden(published[TWIN], options)
    assert '\n' not in str(error.value)


def test_pretraining_takes_them_too():
    done = configure('small/simclr_r18', {**ADAMW, 'optim_wrapper.clip_grad.max_norm': 5})
    assert done.cfg.optim_wrapper.optimizer.betas == [0.9, 0.99]
    assert done.notes == ('optim_wrapper.optimizer.momentum=0.9 is left out: AdamW does not take '
                          'it',)
    done = configure('small/detcon_r18', {'model.type': 'simclr', 'model.projection': 64})
    assert 'num_regions' not in done.cfg.model and len(done.notes) == 3, done.notes
    done = configure('small/detcon_r18', {'masks': {'type': 'grid', 'rows': 3}})
    assert done.cfg.masks == {'type': 'grid', 'rows': 3} and len(done.notes) == 3
    assert configure('small/byol_r18', {'visualizer': None}).cfg.visualizer is None
    with pytest.raises(UsageError, match="did you mean 'betas'"):
        configure('small/simclr_r18', {**ADAMW, 'optim_wrapper.optimizer.betta': 1})
    with pytest.raises(UsageError, match="unknown key 'num_regions' in model"):
        configure('small/detcon_r18', {'model.type': 'simclr', 'model.num_regions': 4,
                                      'model.projection': 64})


@pytest.mark.parametrize('key', ['model.type', 'masks.type', 'optim_wrapper.type',
                                 'optim_wrapper.optimizer.type'])
@pytest.mark.parametrize('name', ['.', '..', '.a', 'a..b'])
def test_a_type_that_is_no_name_is_refused(key, name):
    with pytest.raises(UsageError, match=f'{key} must be text that is the name of a type'):
        configure('small/detcon_r18', {key: name})


def test_the_row_of_a_recipe_does_not_bring_back_what_was_left_out():
    done = configure('detcon_r50', ADAMW, 100)
    assert set(done.cfg.optim_wrapper.optimizer) <= {'type', 'betas', 'weight_decay'}


def test_what_takes_an_overrides_place_is_said():
    options = {'a.classes': 5, 'a': {'size': (1, 2), 'deep': {'x': 1}}, 'b': float('inf')}
    cfg = Config(dict(a=dict(classes=5, size=[1, 2], deep=dict(x=1)), b=float('inf')))
    assert dict(leaves(options)) == {'a.classes': 5, 'a.size': (1, 2), 'a.deep.x': 1,
                                     'b': float('inf')}
    assert replaced_overrides(cfg, options) == []
    cfg.a.classes, cfg.a.deep = 3, None
    assert [line.partition(' of ')[0] for line in replaced_overrides(cfg, options)] == [
        'a.classes=5', 'a.deep.x=1']


def test_options_are_left_as_they_were():
    options = {'a': {'_delete_': True, 'y': 1}}
    cfg = Config(dict(a=dict(x=1)))
    apply_overrides(cfg, options)
    assert cfg.a == {'y': 1} and options == {'a': {'_delete_': True, 'y': 1}}


def test_what_the_command_says_too_must_agree():
    refuse_twice_said({'epochs': 5}, {'epochs': 5, 'data': None})
    refuse_twice_said({'masks.scale': 5}, {'masks': None})
    with pytest.raises(UsageError, match=r'--cfg-options masks\.scale and --masks x contradict'):
        refuse_twice_said({'masks.scale': 5}, {'masks': 'x'})
    with pytest.raises(UsageError, match='--cfg-options epochs and --epochs 3 contradict'):
        refuse_twice_said({'epochs': 5}, {'epochs': 3})


@pytest.mark.parametrize('value', [5, -0.5, None, 'maybe', [1]])
def test_a_section_in_a_list_is_overridden_by_a_section_alone(value):
    with pytest.raises(UsageError, match=r'--cfg-options views\.0: it must be a section of keys'):
        load_config('small/detcon_r18', {'views.0': value})
    with pytest.raises(UsageError, match=r'pipeline\.0: it must be a section of keys'):
        load_config('downstream/fcn_r18_folder', {'test_dataloader.dataset.pipeline.0': value})


@pytest.mark.parametrize(('key', 'value'), [
    ('train_dataloader.dataset.pipeline', None), ('val_dataloader.dataset.pipeline', []),
    ('train_dataloader.dataset.pipeline', [1]), ('train_pipeline.5.type', '')])
def test_a_pipeline_is_a_list_of_sections(key, value):
    with pytest.raises(UsageError, match=key.rpartition('.')[0]):
        read_downstream_config('downstream/fcn_r18_folder', {key: value})
