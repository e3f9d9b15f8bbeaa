"""Import of files that hold more than weights: left aside, or refused before anything runs."""
import argparse
import collections
import os
import pathlib
import sys

import numpy as np
import pytest
import torch
from published_layouts import LAYOUTS, Q, written

from densessl.errors import UsageError
from densessl.export.foreign import read_foreign
from densessl.export.foreign_file import Foreign


@pytest.fixture
def absent_module():
    """A module that is there while a file is written and gone when it is read."""
    module = type(os)('some_library')
    exec('class Settings(dict):\n    __module__ = "some_library"', module.__dict__)
    sys.modules['some_library'] = module
    yield module
    sys.modules.pop('some_library', None)


def test_objects_beside_the_weights_are_left_aside(tmp_path, absent_module):
    content = {**LAYOUTS['moco'](), 'args': argparse.Namespace(lr=0.1, out=pathlib.Path('x')),
               'best': np.float64(0.5), 'table': np.zeros(3), 'cfg': absent_module.Settings(a=1),
               'log': collections.defaultdict(list, {'loss': [1.0]}), 'kind': torch.float16}
    paths = [written(tmp_path, content, f'{zipped}.pth', _use_new_zipfile_serialization=zipped)
             for zipped in (True, False)]
    del sys.modules['some_library']
    for path, old in zip(paths, (False, True), strict=True):
        state, _, lines = read_foreign(path, Foreign())
        assert all(torch.equal(state[key], Q[key]) for key in Q)
        assert any('checksum: the file carries none' in line for line in lines) is old
        assert any('nothing of them was run' in line for line in lines)


class Runs:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('call', [os.system, eval, exec, __import__, print, getattr],
                         ids=lambda call: call.__name__)
def test_a_file_that_would_run_something_is_refused(call, zipped, tmp_path):
    harm = tmp_path / 'harm'
    content = {'state_dict': {'w': torch.zeros(2)}, 'args': Runs(call, f'touch {harm}', 'a')}
    path = written(tmp_path, content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UsageError, match=f'calls .*{call.__name__}.*nothing was run') as error:
        read_foreign(path, Foreign())
    assert not harm.exists() and '\n' not in str(error.value)


@pytest.mark.parametrize('zipped', [True, False])
def test_a_whole_model_is_named_as_what_it_is(zipped, tmp_path):
    path = written(tmp_path, torch.nn.Linear(2, 2), _use_new_zipfile_serialization=zipped)
    with pytest.raises(UsageError, match=r'whole model object, .*: save model\.state_dict\(\)'):
        read_foreign(path, Foreign())
    content = {'model': torch.nn.Linear(2, 2)}
    path = written(tmp_path, content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UsageError, match=r'no named tensors, .* save model\.state_dict\(\)'):
        read_foreign(path, Foreign())


def test_a_program_is_no_checkpoint(tmp_path):
    script = torch.jit.script(torch.nn.Linear(2, 2))
    script.save(str(tmp_path / 'script.pt'))
    with pytest.raises(UsageError, match='cannot be read'):
        read_foreign(tmp_path / 'script.pt', Foreign())
