"""Before any test: one thread a process, and the bridge before the libraries that need it."""
import gc
import os
import signal

import pytest

# Tests run small things, some of them in several processes; more threads than cores slow all down.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MPLBACKEND', 'Agg')
# A shell starts background jobs deaf to Ctrl-C, and their children are deaf too: tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from small_runs import (  # noqa: F401  fixtures
    backbone18,
    backbone50,
    checkpoint18,
    classes,
    label_folder,
    make_checkpoint,
    six,
    tiny,
)

import densessl.transfer.mmcv_ops  # noqa: F401  before any import of what falls back without it
from densessl.demo.sample import write_scenes


@pytest.fixture(scope='session')
def scenes(tmp_path_factory):
    """A handful of drawn scenes."""
    return write_scenes(tmp_path_factory.mktemp('scenes'), unlabelled=12, train=2, val=2,
                        size=(80, 80)) / 'unlabelled'


@pytest.fixture(scope='module', autouse=True)
def libraries_out_of_the_collectors_sight():
    """Half a million objects that imports have made, which each full collection would search."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def surroundings(tmp_path_factory, monkeypatch, tmp_path):
    """A cache for the session, and a folder of its own for every run."""
    monkeypatch.setenv('DENSESSL_CACHE', str(tmp_path_factory.getbasetemp() / 'cache'))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def own_default_scope():
    """A run leaves its default scope behind in mmengine: not for the next test."""
    from mmengine.registry import DefaultScope
    before = DefaultScope._instance_dict.copy()
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


@pytest.fixture(autouse=True)
def own_memory(monkeypatch, tmp_path_factory):
    """What was seen in labelled files is kept with the other files of the tests."""
    folder = tmp_path_factory.getbasetemp() / 'cache'
    monkeypatch.setattr('densessl.labels.file_facts.cache_root', lambda: folder)
