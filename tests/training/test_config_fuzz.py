"""Every key of every demo config with odd values, one at a time: refused by its key in one line, or
a run that is really valid."""
from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from mmengine import Config

from densessl.config import config_folders, load_config
from densessl.errors import RunFailed, UsageError, shown
from densessl.planning import configured
from densessl.training import train as training

SMALL = sorted(path.stem for path in (config_folders()[0] / 'small').glob('*_r18.py')
               if path.stem != 'distill_r18')     # which needs a teacher
OTHERS_SUBJECT = ('views', 'normalization')    # whose bounds tests/data has
ODD: list[Any] = [
    None, True, False, -1, 0, 1, 2, 0.5, -0.5, 5, 1e-300, 1e300, float('nan'), float('inf'),
    float('-inf'), 10 ** 6, 10 ** 12, 2 ** 63, 2 ** 64, -2 ** 64, 10 ** 5000, '', 'maybe', 'a\0b',
    '\n', 'x' * 5000, '.', 'os.system', [], [1], [None, {}], {}, {'type': 'nowhere'}, {'type': 5},
    {'a': {'b': 1}}, (1, 2, 3), b'x', {1, 2}, 3 + 4j, print]


class Reached(Exception):
    """A run was about to start."""


def nodes(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every leaf and every inner node."""
    if path:
        yield path
    items = (node.items() if isinstance(node, Mapping)
             else enumerate(node) if isinstance(node, (list, tuple)) else ())
    for key, child in items:
        yield from nodes(child, (*path, key))


def replaced(cfg: Config, path: tuple[Any, ...], value: Any) -> Config:
    """A copy of ``cfg`` with ``value`` at ``path``."""
    def put(node: Any, path: tuple[Any, ...]) -> Any:
        if not path:
            return value
        if isinstance(node, Mapping):
            return {**node, path[0]: put(node[path[0]], path[1:])}
        changed = list(node)
        changed[path[0]] = put(node[path[0]], path[1:])
        return changed
    return Config(put(copy.deepcopy(cfg.to_dict()), path))


def tiny(name: str) -> Config:
    """A small config whose run is one step."""
    cfg = load_config(f'small/{name}')
    cfg.update(global_batch=4, epochs=1, log_interval=1, visualizer=None, work_dir=None,
               recipe=None, custom_hooks=[], env_cfg={}, find_unused_parameters=False)
    cfg.merge_from_dict({'train_dataloader.num_workers': 0})
    return cfg


def cases() -> list[tuple[str, tuple[Any, ...], Any]]:
    return [(name, path, value) for name in SMALL for path in nodes(tiny(name).to_dict())
            if path[0] not in OTHERS_SUBJECT for value in ODD]


def run(name: str, path: tuple[Any, ...], value: Any, data: Any, monkeypatch: Any) -> str:
    """What becomes of a run with the odd value: 'refused', 'failed' or 'valid'."""
    cfg = replaced(tiny(name), path, value)
    monkeypatch.setattr(configured, 'load_config', lambda *_: copy.deepcopy(cfg))
    try:
        training.train('fuzz', data=str(data))
    except (UsageError, RunFailed) as error:
        said = str(error)
        assert '\n' not in said and len(said) < 1000, said
        if isinstance(error, RunFailed):
            return 'failed'
        if path[0] != 'data':
            named = said.replace('-', '_')
            assert any(str(part) in named for part in path) or 'pretraining' in said, said
        return 'refused'
    except Reached:
        pass
    return 'valid'


def check(some: list[tuple[str, tuple[Any, ...], Any]], data: Any, monkeypatch: Any) -> list[Any]:
    """Run each up to the start; return those that would have started. All failures are told
    together."""
    def stop(*_: Any) -> None:
        raise Reached
    valid, wrong = [], []
    with monkeypatch.context() as patch:
        patch.setattr(training, 'build_runner', stop)
        for name, path, value in some:
            try:
                if run(name, path, value, data, patch) == 'valid':
                    valid.append((name, path, value))
            except Exception as error:      # the fault that is looked for
                wrong.append(f'{name} {".".join(map(str, path))}={shown(value)}: {error!r:.300}')
    assert not wrong, f'{len(wrong)} of {len(some)}:\n' + '\n'.join(wrong)
    return valid


@pytest.fixture
def classes(scenes, tmp_path_factory, surroundings):
    """Twelve images in two classes, for methods that need labels."""
    root = tmp_path_factory.mktemp('classes')
    for i, path in enumerate(sorted(scenes.glob('*'))):
        (root / 'ab'[i % 2]).mkdir(exist_ok=True)
        (root / 'ab'[i % 2] / path.name).symlink_to(path)
    return root


def test_odd_values_are_refused_by_their_key_or_valid(classes, monkeypatch):
    check(random.Random(0).sample(cases(), 200), classes, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_every_odd_value_at_every_key(classes, monkeypatch):
    valid = check(cases(), classes, monkeypatch)
    sample = random.Random(1).sample(valid, 150)
    for name, path, value in sample:
        monkeypatch.chdir(classes.parent)
        monkeypatch.setenv('DENSESSL_CACHE', str(classes.parent / 'cache'))
        run(name, path, value, classes, monkeypatch)
