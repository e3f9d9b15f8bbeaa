"""Values that cannot be used are one line that names the key; errors of training stay as they are.
"""
import pytest
from mmengine import Config

from densessl.cli import main
from densessl.environment import building
from densessl.errors import RunFailed, UsageError
from densessl.finetune.downstream_config import check_values, read_downstream_config
from densessl.finetune.finetune import finetune
from densessl.finetune.labelled_subset import check_seed
from densessl.finetune.run import FinetuneRun

TWIN = 'downstream/fcn_r18_folder'


@pytest.mark.parametrize(('key', 'value', 'words'), [
    ('train_cfg.max_iters', -3, 'a whole number from 1 to 2147483648, not -3'),
    ('train_cfg.max_iters', 'abc', "a whole number from 1 to 2147483648, not 'abc'"),
    ('train_dataloader.batch_size', 0, 'from 1 to 65536, not 0'),
    ('val_dataloader.num_workers', -1, 'from 0 to 1024, not -1'),
    ('optim_wrapper.optimizer.lr', 'abc', "a number above 0, not 'abc'"),
    ('optim_wrapper.optimizer.lr', -1, 'a number above 0, not -1'),
    ('model.data_preprocessor.std', 0, 'a number above 0 or a list'),
    ('model.data_preprocessor.std', [1.0, 0.0, 1.0], 'a number above 0, not'),
    ('default_hooks.checkpoint.interval', 0, 'from 1 to 2147483648 or -1, not 0'),
    ('train_cfg', 3, 'a section of keys, not 3'),
    ('train_dataloader.dataset', 3, 'a section of keys, not 3'),
    ('custom_hooks', 3, 'a list of sections, not 3'),
    ('resume', True, 'add --resume to the command'),
    ('train_pipeline.0.type', 'Foo', r'give train_dataloader\.dataset\.pipeline\.0\.type instead'),
    ('crop', (64, 64), r'give model\.data_preprocessor\.size instead'),
])
def test_a_value_is_refused_by_its_key(key, value, words):
    with pytest.raises(UsageError, match=words) as error:
        read_downstream_config(TWIN, {key: value})
    assert key.partition('.')[0] in str(error.value) and '\n' not in str(error.value)


def test_values_that_are_not_there_are_not_checked():
    cfg = Config(dict(model={}, train_dataloader={}, train_cfg={}, optim_wrapper={}))
    assert check_values(cfg, cfg, {'labels.ignore': 1}) is None


@pytest.mark.parametrize(('option', 'words'), [
    ('model.decode_head.type=Foo', 'model of the config cannot be built: KeyError: Foo is not in'),
    ('model.decode_head.in_index=9', 'decode_head.in_index of the config: 9, but the backbone giv'),
    ('train_dataloader.dataset.pipeline.0.type=Foo', 'train_dataloader.dataset of the config can'),
    ('val_evaluator.type=Foo', 'val_dataloader, val_evaluator or val_cfg of the config cannot'),
    ('param_scheduler.0.milestones=3', 'param_scheduler of the config cannot be built: TypeError'),
    ('custom_hooks=[3]', 'custom_hooks of the config cannot be built: TypeError: hook should be'),
    ('model.backbone.type=ResNett', "must be a backbone of mmseg, not 'ResNett' (did you mean"),
    ('model.backbone.type=.', "model.backbone.type must be a backbone of mmseg, not '.'; it has"),
    ('optim_wrapper.optimizer.type=Foo', 'optim_wrapper.optimizer.type must be the name'),
    ('optim_wrapper.optimizer.momentum=-1', 'optim_wrapper.optimizer.momentum must be a number'),
])
def test_what_the_library_refuses_to_build_is_named(option, words, label_folder, tiny, tmp_path,
                                                    capsys):
    assert main(['finetune', TWIN, '--backbone', 'random', '--data-root', str(label_folder),
                 '--work-dir', str(tmp_path / 'run'), '--cfg-options',
                 *(f'{key}={value}' for key, value in tiny.items()), option]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith('densessl finetune: ') and words in last


def test_only_errors_of_building_are_the_configs():
    with pytest.raises(UsageError, match=r'^x of the config cannot be built: ValueError: last$'):
        with building('x'):
            raise ValueError('first\nlast\n')
    for error in (UsageError('own words'), RunFailed('its own fault'), MemoryError()):
        with pytest.raises(type(error)) as found, building('x'):
            raise error
        assert found.value is error
    with pytest.raises(KeyboardInterrupt), building('x'):
        raise KeyboardInterrupt


def test_an_error_of_training_keeps_its_kind(label_folder, tiny, tmp_path):
    """A head for other channels is built without complaint, and fails at its first image."""
    with pytest.raises(RuntimeError, match='channels'):
        finetune(FinetuneRun(TWIN, data_root=label_folder, work_dir=tmp_path / 'run',
                             options={**tiny, 'model.decode_head.in_channels': 7}))


@pytest.mark.parametrize('seed', [-1, 2 ** 32])
def test_a_seed_that_no_generator_takes(seed, label_folder, tmp_path):
    with pytest.raises(UsageError, match=f'--seed must be .* from 0 to 4294967295, not {seed}'):
        finetune(FinetuneRun(TWIN, data_root=label_folder, seed=seed, work_dir=tmp_path / 'run'))
    assert not (tmp_path / 'run').exists()
    check_seed(2 ** 32 - 1)


@pytest.mark.parametrize('fraction', [0.0, 7.0, float('nan')])
def test_a_wrong_fraction_leaves_no_trace(fraction, label_folder, tmp_path):
    with pytest.raises(UsageError, match='above 0 and at most 1'):
        finetune(FinetuneRun(TWIN, data_root=label_folder, fraction=fraction,
                             work_dir=tmp_path / 'run'))
    assert not (tmp_path / 'run').exists()
