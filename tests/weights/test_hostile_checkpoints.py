"""Checkpoints of others in a work folder: what a run goes on from is data."""
import os
import random
import shutil

import pytest
import torch

from densessl.engine.restore import checked_hub
from densessl.errors import RunFailed, UsageError
from densessl.finetune.finetune import finetune

TWIN = 'downstream/fcn_r18_folder'


@pytest.fixture(scope='module')
def options(tiny):
    return {**tiny, 'train_cfg.max_iters': 2, 'default_hooks.checkpoint.interval': 1}


@pytest.fixture(scope='module')
def run(options, backbone18, label_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp('run') / 'run'
    finetune(TWIN, backbone18, label_folder, cfg_options=options, work_dir=folder)
    for name in ('scores.json', 'iter_2.pth'):
        (folder / name).unlink()
    return folder


@pytest.fixture
def resume(run, options, backbone18, label_folder, tmp_path):
    """change(content of the newest checkpoint) → its run goes on."""
    def resume(change):
        folder = tmp_path / 'run'
        shutil.copytree(run, folder, dirs_exist_ok=True)
        content = torch.load(folder / 'iter_1.pth', weights_only=True)
        change(content)
        torch.save(content, folder / 'iter_1.pth')
        return finetune(TWIN, backbone18, label_folder, cfg_options=options, work_dir=folder,
                        resume=True)
    return resume


def test_the_config_in_a_checkpoint_is_not_run(resume, tmp_path):
    trace = tmp_path / 'trace'

    def change(content):
        content['meta']['config'] = f'open({str(trace)!r}, "w").close()\n'

    assert resume(change)['mIoU'] >= 0
    assert not trace.exists()


def test_no_file_elsewhere_is_taken_for_the_best_checkpoint(resume, tmp_path):
    def change(content):
        content['message_hub']['runtime_info']['best_ckpt'] = str(tmp_path / 'photo.png')

    with pytest.raises(UsageError, match=r"its message_hub\.best_ckpt is '.*photo\.png', not"):
        resume(change)
    hub = checked_hub({'runtime_info': {'best_ckpt': '/home/me/best_x.pth', 'other': 5}}, 'f.pth',
                      tmp_path)
    assert hub['runtime_info'] == {'best_ckpt': str(tmp_path / 'best_x.pth'), 'other': 5}
    for name in ('/home/me/iter_1.pth', '..', 'best_x', 5, ['best_x.pth'], {}):
        with pytest.raises(UsageError, match='best_ckpt_mIoU is'):
            checked_hub({'runtime_info': {'best_ckpt_mIoU': name}}, 'f.pth', tmp_path)


ODD = [None, 5, -1, 10 ** 30, 'x', 'a\nb', [], {}, [5], {'a': 5}, float('nan'), torch.zeros(3)]


def places(node, path=()):
    """The way to every value within; of weights, and of many alike, the first few."""
    items = list(node.items() if isinstance(node, dict) else enumerate(node))[:6]
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def put(content, path, value):
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = value


def cases(path, count):
    ways = [one for one in places(torch.load(path, weights_only=True)) if one[0] != 'state_dict'
            or len(one) == 1]
    rng = random.Random(0)
    return [(rng.choice(ways), rng.choice(ODD)) for _ in range(count)]


@pytest.mark.parametrize(('path', 'value'), [
    (('meta',), None), (('meta', 'iter'), -1), (('meta', 'seed'), 'x'), (('message_hub',), 5),
    (('message_hub', 'runtime_info'), []), (('optimizer', 'state', 0, 'momentum_buffer'), 5),
    (('optimizer', 'state', 0, 'momentum_buffer'), torch.zeros(3)), (('state_dict',), {}),
    (('optimizer', 'param_groups', 0, 'lr'), 'x'), (('optimizer', 'param_groups'), {}),
    (('param_schedulers', 0, 'step'), 5), (('param_schedulers',), 'x')])
def test_an_odd_value_is_named(path, value, resume):
    with pytest.raises(UsageError, match=r'iter_1\.pth.* (is|does not fit|reason)') as error:
        resume(lambda content: put(content, path, value))
    assert str(error.value).isprintable()
    assert path == ('state_dict',) or path[0] in str(error.value)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_any_odd_value_is_one_line_or_harmless(run, resume, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, refused = set(os.listdir(tmp_path)), 0
    for path, value in cases(run / 'iter_1.pth', 60):
        try:
            resume(lambda content, path=path, value=value: put(content, path, value))
        except (UsageError, RunFailed) as error:
            refused += 1
            assert str(error).isprintable() and len(str(error)) < 1000
        shutil.rmtree(tmp_path / 'run')
    assert set(os.listdir(tmp_path)) == before
    assert refused > 5
