"""A handful of drawn scenes, and a folder of its own for every run."""
from __future__ import annotations

import pytest

from densessl.data.sample import write_scenes


@pytest.fixture(scope='session')
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp('scenes'), unlabelled=12, train=2, val=2,
                        size=(80, 80)) / 'unlabelled'


@pytest.fixture
def surroundings(tmp_path_factory, monkeypatch, tmp_path):
    monkeypatch.setenv('DENSESSL_CACHE', str(tmp_path_factory.getbasetemp() / 'cache'))
    monkeypatch.chdir(tmp_path)
