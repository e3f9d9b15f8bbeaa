"""Discovery: a third-party plugin comes through the same call as the first-party ones, and each
kind of broken plugin is reported by name."""
from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from PIL import Image

from densessl.plugins import load_plugins

GOOD = '''
from densessl import hookimpl, MaskGenerator
import numpy as np

class Halves(MaskGenerator):
    name = 'halves'
    def __call__(self, image):
        labels = np.zeros(image.shape[:2], np.int32)
        labels[:, image.shape[1] // 2:] = 1
        return labels

@hookimpl
def mask_generators():
    return [Halves]
'''
METHOD = '''
from densessl import hookimpl, Method
@hookimpl
def methods():
    return [Mine]
class Mine(Method):
'''
TARGET = '''
from densessl import hookimpl
from densessl.transfer.target import TransferTarget
@hookimpl
def transfer_targets():
    return [Mine]
class Mine(TransferTarget):
'''
BROKEN = {
    'import error': ('import nothing_of_this_name', "No module named 'nothing_of_this_name'"),
    'misspelt hook': ('from densessl import hookimpl\n@hookimpl\ndef mask_generator():\n'
                      '    return []', "unknown hook 'mask_generator' (did you mean 'mask_gen"),
    'wrong return type': ('from densessl import hookimpl\n@hookimpl\ndef methods():\n'
                          '    return [int]', 'must return subclasses of densessl.Method'),
    'exits': ('import sys\nsys.exit("needs frobnicate")', "failed: SystemExit: needs frobnicate"),
    'hook exits': ('import sys\nfrom densessl import hookimpl\n@hookimpl\ndef methods():\n'
                   '    sys.exit(3)', "hook 'methods' failed: SystemExit: 3"),
    'name of a number': (GOOD.replace("'halves'", '5'), 'Halves.name must be text of letters'),
    'name of a list': (GOOD.replace("'halves'", "['a', 'b']"), "and -, not ['a', 'b']"),
    'name with a dot': (GOOD.replace("'halves'", "'my.gen'"), "and -, not 'my.gen'"),
    'blank name': (GOOD.replace("'halves'", "' '"), "Halves.name must be text of letters"),
    'views of a word': (METHOD + "    views = '2'", "Mine.views must be a whole number or None, "),
    'target with a dot': (TARGET + "    name = 'a.b'", "Mine.name must be text of letters"),
    'target of odd packages': (TARGET + '    config_packages = 3',
                               'Mine.config_packages must be a dict'),
    'target that fails': (TARGET + '    def __init__(self):\n        1 / 0', 'Mine() failed: Zero'),
    'many lines': ('raise ImportError("one\\n\\x1b[31mtwo")', r'ImportError: one \x1b[31mtwo'),
    'not a list': ('from densessl import hookimpl\n@hookimpl\ndef methods():\n    return None',
                   'must return a list, not NoneType'),
    'hook raises': ('from densessl import hookimpl\n@hookimpl\ndef methods():\n    return 1 / 0',
                    'ZeroDivisionError'),
    'duplicate name': (GOOD.replace("'halves'", "'grid'"),
                       "the mask generator 'grid' is already provided by densessl_plugins.masks"),
    'no hooks': ('x = 1', 'implements none of the hooks'),
    'wrong arguments': ('from densessl import hookimpl\n@hookimpl\ndef methods(extra):\n'
                        '    return []', 'extra'),
}


def install(folder, name, code):
    """A distribution as pip would leave it: a module and a dist-info with its entry point."""
    module = f'fake_{name}'
    (folder / f'{module}.py').write_text(code)
    info = folder / f'{module}-1.2.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: dist-{name}\nVersion: 1.2\n')
    (info / 'entry_points.txt').write_text(f'[densessl]\n{name} = {module}\n')


def python(folder, code, **environment):
    """Run code in a fresh interpreter that sees the folder's distributions."""
    path = os.pathsep.join([str(folder), os.environ.get('PYTHONPATH', '')])
    return subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True,
        env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1', **environment})


USE = '''
    import numpy as np
    from densessl.registry import MASK_GENERATORS
    print(MASK_GENERATORS.build(dict(type={0!r}))(np.zeros((2, 4, 3), np.uint8)).tolist())
'''
LIST = '''
    from densessl.plugins import load_plugins
    for p in load_plugins():
        print(p.name, p.distribution, p.version, p.reason or 'ok', p.disabled, sep='|')
'''


def test_first_party_plugins_are_whole():
    plugins = load_plugins()
    assert {'detcon', 'masks', 'mmseg', 'timm', 'torchvision'} <= {p.name for p in plugins}
    assert [p.reason for p in plugins if p.distribution == 'densessl' and p.reason] == []
    assert load_plugins() is plugins


def test_third_party_plugin_loads(tmp_path):
    install(tmp_path, 'halves', GOOD)
    result = python(tmp_path, USE.format('halves'))
    assert result.stdout == '[[0, 0, 1, 1], [0, 0, 1, 1]]\n', result.stderr
    assert 'halves|dist-halves|1.2|ok|False' in python(tmp_path, LIST).stdout


@pytest.fixture(scope='module')
def all_broken(tmp_path_factory):
    """One interpreter that meets every kind of broken plugin, and a good one."""
    folder = tmp_path_factory.mktemp('broken')
    for kind, (code, _) in BROKEN.items():
        install(folder, kind.replace(' ', '_'), code)
    install(folder, 'zhalves', GOOD)
    install(folder, 'nameless', '')
    (folder / 'fake_nameless-1.2.dist-info' / 'METADATA').write_text('')
    return python(folder, USE.format('halves') + LIST)


@pytest.mark.parametrize('kind', BROKEN)
def test_broken_plugin_is_named_and_the_others_go_on(kind, all_broken):
    name = kind.replace(' ', '_')
    line, = (line for line in all_broken.stderr.splitlines()
             if f"plugin '{name}' (dist-{name} 1.2) is broken" in line)
    assert BROKEN[kind][1] in line
    assert all_broken.returncode == 0
    assert all_broken.stdout.startswith('[[0, 0, 1, 1], [0, 0, 1, 1]]')
    assert 'detcon|densessl|' in all_broken.stdout
    assert 'zhalves|dist-zhalves|1.2|ok' in all_broken.stdout


def test_a_distribution_without_a_name_is_told_from_others(all_broken):
    assert "plugin 'nameless' (? ?) is broken and left out" in all_broken.stderr


def test_a_run_that_uses_a_broken_plugin_stops_with_exit_code_2(tmp_path):
    install(tmp_path, 'bad', 'import nothing_of_this_name')
    images = tmp_path / 'images'
    images.mkdir()
    Image.new('RGB', (8, 8)).save(images / 'a.png')
    result = python(tmp_path, f'''
        import sys
        from densessl.cli import main
        sys.exit(main(['make_masks', {str(images)!r}, {str(tmp_path / 'out')!r},
                       '--generator', 'theirs']))
    ''')
    assert result.returncode == 2
    assert "unknown mask generator 'theirs'" in result.stderr
    assert "plugin 'bad' (dist-bad 1.2) is broken: importing" in result.stderr.splitlines()[-1]
    assert 'Traceback' not in result.stderr


def test_disabled_plugins_are_left_out(tmp_path):
    install(tmp_path, 'halves', GOOD)
    result = python(tmp_path, LIST, DENSESSL_DISABLE_PLUGINS='halves, nosuch')
    assert 'halves|dist-halves|1.2|ok|True' in result.stdout
    assert "names 'nosuch', which is not installed" in result.stderr
    result = python(tmp_path, USE.format('halves'), DENSESSL_DISABLE_PLUGINS='halves')
    assert "unknown mask generator 'halves'" in result.stderr


def test_same_entry_point_name_twice(tmp_path):
    install(tmp_path, 'masks', GOOD)   # a third party that calls itself as a first-party plugin
    result = python(tmp_path, LIST)
    assert "the name 'masks' is taken by 'masks' (densessl" in result.stderr


def test_config_folder_of_a_plugin_is_searched(tmp_path):
    (tmp_path / 'recipes').mkdir()
    (tmp_path / 'recipes' / 'special.py').write_text('epochs = 3\n')
    install(tmp_path, 'recipes', f'''
from pathlib import Path
from densessl import hookimpl
@hookimpl
def config_folders():
    return [Path({str(tmp_path / "recipes")!r})]
''')
    result = python(tmp_path, '''
        from densessl.config import load_config
        print(load_config('special').epochs)
    ''')
    assert result.stdout == '3\n', result.stderr


def test_plugins_command_lists_origin_and_fault(tmp_path):
    install(tmp_path, 'bad', BROKEN['import error'][0])
    result = python(tmp_path, '''
        import sys
        from densessl.cli import main
        sys.exit(main(['plugins']))
    ''', COLUMNS='200')
    assert result.returncode == 1
    assert 'dist-bad 1.2' in result.stdout and 'BROKEN: importing' in result.stdout
    assert 'methods: detcon' in result.stdout
