"""Finding configs, overriding them, and refusing what is unknown."""
from __future__ import annotations

import pytest

from densessl.commands import parse_options
from densessl.config import find_config, load_config
from densessl.errors import UsageError
from densessl.planning.config_check import check_config


@pytest.mark.parametrize('name', ['detcon_r50', 'configs/detcon_r50.py', 'detcon_r50.py'])
def test_configs_are_found_by_name_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name).name == 'detcon_r50.py'


@pytest.mark.parametrize('name', ['demo/detcon_r18', 'configs/demo/simclr_r18.py'])
def test_a_former_name_goes_on_working(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = find_config(name)
    assert found.parent.name == 'small' and found.stem in name
    assert find_config('demo/demo').parent.name == 'demo'


def test_a_path_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'detcon_r50').write_text('')
    assert find_config('detcon_r50').resolve() == tmp_path / 'detcon_r50'


def test_unknown_config_names_close_ones():
    with pytest.raises(UsageError, match=r"no config 'detcon_r5'.*did you mean 'detcon_r50'"):
        find_config('detcon_r5')


def test_a_config_that_fails_says_how(tmp_path):
    (tmp_path / 'bad.py').write_text('x = 1 / 0\n')
    with pytest.raises(UsageError, match='cannot be read: ZeroDivisionError'):
        load_config(str(tmp_path / 'bad.py'))


def test_options_are_parsed_as_literals():
    assert parse_options(['a.b=1', 'c=[1, 2.5]', 'd=text', 'e=true', 'f=None', 'g=a=b']) == {
        'a.b': 1, 'c': [1, 2.5], 'd': 'text', 'e': True, 'f': None, 'g': 'a=b'}
    for odd in ('{[1]: 2}', '-' * 5000 + '1', '(' * 300, '{1} - 2', '"' + chr(0)):   # words
        assert parse_options([f'a={odd}']) == {'a': odd}
    with pytest.raises(UsageError, match=r"'oops' is not of the form KEY=VALUE"):
        parse_options(['oops'])


def test_overrides_reach_their_key():
    cfg = load_config('detcon_r50', {'optim_wrapper.optimizer.momentum': 0.8, 'views.0.size': 32,
                                     'model.backbone.zero_init_residual': True})
    assert cfg.optim_wrapper.optimizer.momentum == 0.8
    assert cfg.views[0]['size'] == 32 and cfg.views[1]['size'] == 224
    assert cfg.model.backbone.zero_init_residual is True


@pytest.mark.parametrize('key, message', [
    ('train_dataloader.batchsize', "did you mean 'batch_size'"),
    ('optim_wraper.optimizer.lr', "did you mean 'optim_wrapper'"),
    ('epoch', "did you mean 'epochs'"),
    ('views.7.size', "no key '7'|no item"),
])
def test_override_of_an_unknown_key(key, message):
    with pytest.raises(UsageError, match=message):
        load_config('detcon_r50', {key: 1})


@pytest.mark.parametrize('key, message', [
    ('model.temprature', "did you mean 'temperature'"),
    ('model.type', "unknown method 'x'"),
    ('views.0.blurr', "unknown key|did you mean 'blur'"),
    ('views', 'takes 2 views, not 1'),
])
def test_typos_in_a_pretraining_config(key, message, tmp_path):
    cfg = load_config('detcon_r50')
    value = [cfg.views[0]] if key == 'views' else 'x'
    if key == 'views.0.blurr':
        cfg.views[0]['blurr'] = 1
    else:
        cfg.merge_from_dict({key: value})
    with pytest.raises(UsageError, match=message):
        check_config(cfg, 'detcon_r50')


def test_unknown_top_level_key(tmp_path):
    cfg = load_config('detcon_r50')
    cfg.global_bach = 1
    with pytest.raises(UsageError, match=r"'global_bach'.*did you mean 'global_batch'"):
        check_config(cfg, 'detcon_r50')
