"""What a resumed run takes over from a checkpoint. Anybody may have made it, so it is checked.

mmengine trusts it: it runs the text of its config, sets attributes by the names in it, and deletes
the checkpoints that it names.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from densessl.bounds import is_count
from densessl.engine.checkpoint_file import read_checkpoint, require_run_state
from densessl.environment import is_of_machine
from densessl.errors import RunFailed, UsageError, shown

# In a message hub; the one before the best is deleted.
_BEST, _LAST = re.compile('best_ckpt(_.*)?'), 'last_ckpt'
_SCORES = re.compile(r'best_score(_.*)?')
# What PyTorch's optimizers keep for each weight of a parameter, not once for all of them.
_PER_WEIGHT = {'momentum_buffer', 'exp_avg', 'exp_avg_sq', 'max_exp_avg_sq', 'square_avg',
               'grad_avg', 'sum'}
_REMEDY = 'use another checkpoint, or start anew in another --work-dir'


@contextmanager
def going_on(path: str | Path) -> Iterator[None]:
    """Within, an error means that a run cannot go on from the file.

    Raises:
        UsageError: instead of what was raised.
    """
    try:
        yield
    except (UsageError, RunFailed):
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
            ValueError) as error:
        if is_of_machine(error):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f'cannot resume {path}: {shown(reason)}; {_REMEDY}') from error


def load_strictly(runner: Runner, filename: str, map_location: str | Callable,
                  check: Callable[[str, dict[str, Any]], None] = lambda *_: None
                  ) -> dict[str, Any]:
    """Load a checkpoint into a runner's model, every key, after ``check``; return its content."""
    checkpoint = read_checkpoint(filename, map_location)
    require_run_state(filename, checkpoint, ('state_dict',))
    check(filename, checkpoint)
    runner.call_hook('after_load_checkpoint', checkpoint=checkpoint)
    try:
        getattr(runner.model, 'module', runner.model).load_state_dict(checkpoint['state_dict'])
    except RuntimeError as error:
        raise UsageError(f'{filename} does not fit this config: '
                         f'{" ".join(str(error).split())[:300]}') from error
    runner._has_loaded = True
    return checkpoint


def checked_meta(checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """The ``meta`` of a checkpoint without the text of a config, which mmengine would run.

    Raises:
        UsageError: it does not say after which iteration it was saved, or its values are odd.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, dict):
        _refuse(path, 'meta', meta, 'a dict')
    for key in ('iter', 'epoch', 'seed'):
        value = meta.get(key)
        if not (is_count(value) or (key == 'seed' and value is None)):
            _refuse(path, f'meta.{key}', value, 'a whole number from 0 on')
    return {key: value for key, value in meta.items() if key != 'config'}


def checked_hub(hub: Any, path: str | Path, folder: str | Path) -> dict[str, Any]:
    """The message hub of a checkpoint, as far as a run goes on with it.

    Args:
        folder: of the checkpoints; those that the hub names are looked for in it alone.

    Raises:
        UsageError: a value is of the wrong type.
    """
    info = hub.get('runtime_info') if isinstance(hub, dict) else None
    if not isinstance(info, dict):
        _refuse(path, 'message_hub', hub, 'a dict with a runtime_info')
    return {'log_scalars': {}, 'resumed_keys': dict.fromkeys(info, True),
            'runtime_info': dict(_checked_info(info, path, Path(folder)))}


def check_optimizer(state: Any, wrapper: Any, path: str | Path) -> None:
    """Check the state of an optimizer: groups as those of ``wrapper``, and for each parameter
    tensors of its shape or single numbers. (Several optimizers are left to themselves.)

    Raises:
        UsageError: it is another optimizer's.
    """
    if state is None or not isinstance(wrapper, OptimWrapper):
        return
    expected, optimizer = wrapper.state_dict(), wrapper.optimizer
    if not (isinstance(state, dict) and isinstance(state.get('state'), dict)):
        _refuse(path, 'optimizer', state, 'the state of an optimizer')
    for part in ('param_groups', 'base_param_settings'):
        _check_like(state.get(part), expected.get(part), path, f'optimizer.{part}')
    shapes = [tuple(one.shape) for group in optimizer.param_groups for one in group['params']]
    for key, values in state['state'].items():
        at = f'optimizer.state.{key}'
        if not (is_count(key) and key < len(shapes) and isinstance(values, dict)):
            _refuse(path, at, values, f'that of one of {len(shapes)} parameters')
        for name, value in values.items():
            shape = tuple(value.shape) if isinstance(value, Tensor) else None
            others = () if name in _PER_WEIGHT else (None, (), (1,))
            if value is not None and shape not in (shapes[key], *others):
                _refuse(path, f'{at}.{name}', value, f'a tensor of the shape {shapes[key]}')


def check_schedulers(states: Any, schedulers: Any, path: str | Path) -> None:
    """Check the states of a run's schedulers, a list or dict of lists of them, whose attributes
    they become.

    Raises:
        UsageError: they are other schedulers'.
    """
    if states is None or schedulers is None:
        return
    if isinstance(schedulers, Mapping):
        for name, some in schedulers.items():
            check_schedulers(states.get(name), some, path)
        return
    if not isinstance(states, list):
        _refuse(path, 'param_schedulers', states, 'a list')
    for i, (state, one) in enumerate(zip(states, schedulers, strict=False)):
        expected, at = one.state_dict(), f'param_schedulers[{i}]'
        if not isinstance(state, dict) or set(state) - set(expected):
            _refuse(path, at, state, f'a dict of {", ".join(expected)}')
        _check_like(state, expected, path, at)


def _check_like(found: Any, expected: Any, path: str | Path, name: str) -> None:
    """Check that what both have is of the same kind; versions of a library differ in the rest."""
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping):
            _refuse(path, name, found, 'a dict')
        for key in set(expected) & set(found):
            _check_like(found[key], expected[key], path, f'{name}.{key}')
    elif isinstance(expected, (list, tuple)):
        if not isinstance(found, (list, tuple)) or len(found) != len(expected):
            _refuse(path, name, found, f'a list of {len(expected)}')
        for i, (one, wanted) in enumerate(zip(found, expected, strict=True)):
            _check_like(one, wanted, path, f'{name}[{i}]')
    elif isinstance(expected, bool):
        if not isinstance(found, bool):
            _refuse(path, name, found, 'true or false')
    elif isinstance(expected, (int, float, Tensor)):
        if not (isinstance(found, (int, float)) or (isinstance(found, Tensor)
                                                     and found.numel() == 1)):
            _refuse(path, name, found, 'a number')
    elif isinstance(expected, str) and not isinstance(found, str):
        _refuse(path, name, found, 'a string')


def _checked_info(info: dict[Any, Any], path: str | Path, folder: Path
                  ) -> Iterator[tuple[Any, Any]]:
    for key, value in info.items():
        name = str(key)
        if (name == _LAST or _BEST.fullmatch(name)) and value is not None:
            begin = '' if name == _LAST else 'best_'
            if not (isinstance(value, str) and Path(value).suffix == '.pth'
                    and Path(value).name.startswith(begin)):
                _refuse(path, f'message_hub.{name}', value, f'a name as {begin}iter_1.pth')
            value = str(folder / Path(value).name)
        elif _SCORES.fullmatch(name) and not isinstance(value, (int, float)):
            _refuse(path, f'message_hub.{name}', value, 'a number')
        elif name == 'keep_ckpt_ids' and not (isinstance(value, (list, tuple))
                                              and all(map(is_count, value))):
            _refuse(path, f'message_hub.{name}', value, 'a list of whole numbers')
        yield key, value


def _refuse(path: str | Path, key: str, value: Any, wanted: str) -> None:
    raise UsageError(f'cannot resume {path}: its {key} is {shown(value)}, not {wanted}; {_REMEDY}')
