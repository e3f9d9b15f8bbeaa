"""``densessl plugins new``: what it writes installs into an environment of its own and trains."""
from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv

import pytest

from densessl.cli import main
from densessl.commands.plugins import write_plugin


@pytest.fixture(scope='module')
def environment(tmp_path_factory):
    """An environment on top of the present one: nothing that is installed is installed again."""
    root = tmp_path_factory.mktemp('env')
    venv.create(root, with_pip=False)
    site = root / 'lib' / f'python{sys.version_info[0]}.{sys.version_info[1]}' / 'site-packages'
    (site / 'present.pth').write_text(
        f'import site; site.addsitedir({sysconfig.get_path("purelib")!r})\n')
    return root / 'bin' / 'python'


def test_a_new_plugin_installs_and_passes_its_own_tests(environment, tmp_path):
    folder = write_plugin('my_own', tmp_path / 'densessl-my_own')
    subprocess.run([sys.executable, '-m', 'pip', '--python', str(environment), 'install', '--quiet',
                    '--no-index', '--no-deps', '--no-build-isolation', str(folder)], check=True)
    run = {'cwd': tmp_path, 'capture_output': True, 'text': True,
           'env': {**os.environ, 'COLUMNS': '160'}}
    listed = subprocess.run([environment, '-m', 'densessl.cli', 'plugins'], **run)
    assert listed.returncode == 0, listed.stdout
    # older setuptools write the distribution's name with a hyphen
    assert re.search(r'densessl-my[-_]own 0\.1\.0', listed.stdout)
    assert 'methods: my_own' in listed.stdout
    # its own test trains two steps through the ordinary command
    tested = subprocess.run([environment, '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
                             str(folder / 'tests')], **run)
    assert '3 passed' in tested.stdout, tested.stdout + tested.stderr


def test_what_is_written_is_clean(tmp_path):
    folder = write_plugin('clean', tmp_path / 'plugin')
    checked = subprocess.run([sys.executable, '-m', 'ruff', 'check', '--isolated', '--select',
                              'E,F,W,UP,B', '--line-length', '100', str(folder)],
                             capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    written = [path for path in folder.rglob('*') if path.is_file()]
    assert len(written) == 7 and not [p for p in written if '{name}' in p.read_text()]


@pytest.mark.parametrize('name, message', [('My-Own', 'is not a plugin name'),
                                           ('_1', 'is not a plugin name'),
                                           ('class', 'not a word of Python'),
                                           ('none', 'not a word of Python'),
                                           ('method', 'or of densessl itself'),
                                           ('configs', 'a package densessl_configs, and there'),
                                           ('plugins', 'a package densessl_plugins, and there'),
                                           ('masks', "is taken by the plugin 'masks'"),
                                           ('detcon_s', "is taken by the plugin 'detcon'")])
def test_bad_names_are_refused(name, message, tmp_path, capsys):
    assert main(['plugins', 'new', name, '--out', str(tmp_path / 'new')]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / 'new').exists()


def test_debug_shows_where_an_error_is_from(tmp_path, capsys):
    for command in (['plugins', 'new', 'class'], ['make_masks', str(tmp_path / 'nowhere'), 'out']):
        codes = [main(command), main([*command, '--debug'])]
        plain, debugged = capsys.readouterr().err.split('Traceback (most recent call last)')
        assert codes == [2, 2] and len(plain.splitlines()) == 1
        assert 'densessl.errors.UsageError' in debugged and debugged.endswith(plain)


def test_an_existing_folder_is_not_written_over(tmp_path, capsys):
    assert main(['plugins', 'new', 'fresh', '--out', str(tmp_path)]) == 2
    assert 'already exists' in capsys.readouterr().err
