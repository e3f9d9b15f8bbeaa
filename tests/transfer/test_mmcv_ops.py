"""The bridge as a module: what it answers, and when `install` puts it in place."""
import ast
import importlib.util
import os
import pathlib
import subprocess
import sys

import cv2
import mmcv
import mmdet
import numpy as np
import pytest
from mmengine.fileio import dump
from mmengine.utils.dl_utils import mmcv_full_available

from densessl.transfer import mmcv_ops

ROOT = pathlib.Path(__file__).parents[2]
TOOLS = pathlib.Path(mmdet.__file__).parent / '.mim' / 'tools'
BRIDGED = isinstance(sys.modules.get(mmcv_ops.EXTENSION), mmcv_ops.Bridge)
only_bridged = pytest.mark.skipif(not BRIDGED, reason='mmcv is installed with its compiled ops')


def run(*arguments, path=()):
    """Python in a process of its own, with the repository on its path; what it printed."""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, (*path, ROOT)))}
    done = subprocess.run([sys.executable, *map(str, arguments)], env=environment, check=False,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def names_asked_for():
    """The op names in every `load_ext('_ext', [...])` of mmcv.ops."""
    for path in (pathlib.Path(mmcv.__file__).parent / 'ops').glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith('load_ext'):
                yield from ast.literal_eval(node.args[1])


def test_the_bridge_answers_for_every_op_of_mmcv():
    bridge, asked_for = mmcv_ops.Bridge(), set(names_asked_for())
    assert len(asked_for) > 100
    assert all(hasattr(bridge, name) for name in asked_for)
    supplied = {name for names in mmcv_ops.OPS.values() for name in names}
    assert supplied < asked_for
    for name in asked_for - supplied - {'get_compiler_version', 'get_compiling_cuda_version'}:
        with pytest.raises(mmcv_ops.MissingOpError, match=f"'{name}'.*\n *pip install"):
            getattr(bridge, name)(None, key=None)


def test_the_bridge_has_no_attribute_that_python_would_misread():
    assert not hasattr(mmcv_ops.Bridge(), '__file__')
    assert not hasattr(mmcv_ops.Bridge(), '__path__')


def test_libraries_see_that_mmcv_has_ops():
    from mmcv.utils import collect_env
    from mmcv.utils.ext_loader import check_ops_exist
    assert importlib.util.find_spec(mmcv_ops.EXTENSION) is not None
    assert mmcv_full_available()
    if sys.version_info < (3, 14):  # asks pkgutil.find_loader
        assert check_ops_exist()
    if BRIDGED:
        assert 'torchvision' in collect_env()['MMCV Compiler']


@only_bridged
def test_install_is_idempotent():
    bridge = sys.modules[mmcv_ops.EXTENSION]
    assert mmcv_ops.install() and mmcv_ops.install()
    assert sys.modules[mmcv_ops.EXTENSION] is bridge


def test_install_does_nothing_without_mmcv(monkeypatch):
    monkeypatch.delitem(sys.modules, mmcv_ops.EXTENSION, raising=False)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    assert mmcv_ops.install() is False
    assert mmcv_ops.EXTENSION not in sys.modules


@pytest.mark.parametrize('first', ['', 'import mmcv._ext'])
def test_install_leaves_a_compiled_extension_alone(first, tmp_path):
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').write_text('')
    (tmp_path / 'mmcv' / '_ext.py').write_text("origin = 'compiled'")
    assert run('-c', f'''
import sys
{first}
before = set(sys.modules)
from densessl.transfer import mmcv_ops
assert not {{name for name in set(sys.modules) - before if name.split('.')[0] == 'mmcv'}}
assert mmcv_ops.install() is False
import mmcv._ext
print(mmcv._ext.origin)''', path=[tmp_path]) == 'compiled'


@only_bridged
def test_an_import_after_a_failed_one_of_the_ops_mends_them_and_says_so():
    assert run('-c', '''
import warnings
import mmcv
try:
    import mmcv.ops
except ModuleNotFoundError:
    pass
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    import densessl.transfer.mmcv_ops
assert 'import densessl.transfer.mmcv_ops before them' in str(caught[0].message)
import torch
from mmcv.ops import nms
assert mmcv._ext.nms
print(nms(torch.tensor([[0., 0, 2, 2], [0, 0, 2, 3]]), torch.tensor([.8, .9]), .5)[1].tolist())
''') == '[1]'


CONFIG = '''
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', 'mmdet::_base_/default_runtime.py']
custom_imports = dict(imports=['densessl.transfer.mmcv_ops'])
model = dict(backbone=dict(depth=18, init_cfg=None), neck=dict(in_channels=[64, 128, 256, 512]))
train_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CocoDataset', data_root='DATA', ann_file='boxes.json',
                 data_prefix=dict(img=''), metainfo=dict(classes=('thing',)), pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs')]))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1)
default_hooks = dict(checkpoint=dict(by_epoch=False))
'''


def test_mmdetection_trains_with_its_own_tool_and_one_line_in_the_config(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((64, 64, 3), np.uint8))
    dump({'images': [{'id': 0, 'file_name': 'a.png', 'width': 64, 'height': 64}],
          'categories': [{'id': 1, 'name': 'thing'}],
          'annotations': [{'id': 1, 'image_id': 0, 'category_id': 1, 'iscrowd': 0, 'area': 900,
                           'bbox': [10, 10, 30, 30]}]}, str(tmp_path / 'boxes.json'))
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.replace('DATA', str(tmp_path)))
    run('-W', 'ignore', TOOLS / 'train.py', config, '--work-dir', tmp_path / 'work')
    assert (tmp_path / 'work' / 'iter_1.pth').exists()


def test_a_tool_that_imports_the_models_first_runs_through_the_module():
    usage = run('-W', 'ignore', '-m', 'densessl.transfer.mmcv_ops', TOOLS / 'test.py', '--help')
    assert 'usage: test.py' in usage


def test_the_module_without_a_script_says_how_to_use_it(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['mmcv_ops.py'])
    with pytest.raises(SystemExit, match='2'):
        mmcv_ops.main()
    assert capsys.readouterr().err.startswith('usage: python -m densessl.transfer.mmcv_ops SCRIPT')
