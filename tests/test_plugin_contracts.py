"""A method or a mask generator that breaks its contract ends the command that uses it with one line
that names its class and what is asked for."""
from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from densessl.backbones import build_backbone
from densessl.cli import main
from densessl.errors import UsageError
from densessl.masks.generator import MaskGenerator
from densessl.method import Method
from densessl.registry import MASK_GENERATORS, METHODS


class Halves(MaskGenerator):
    name = 'broken'

    def __call__(self, image):
        return np.indices(image.shape[:2])[1] * 2 // image.shape[1]


class Raises(Halves):
    def __init__(self, *, file: str = 'm.onnx') -> None:
        raise FileNotFoundError(f'no model {file}')


class ExitsAtOnce(Halves):
    def __init__(self) -> None:
        sys.exit('needs frobnicate')


class Forgets(Halves):
    def __init__(self, *, share: float = 0.5) -> None:
        self.part = share


class NoDict(Halves):
    def parameters(self):
        return [1]


class OddMaps(Halves):
    maps = '2'


class HoldsFunction(Halves):
    def __init__(self) -> None:
        self.rule = lambda image: image


class FailsToReturn(Halves):
    def __getstate__(self):
        return {'a': 1}

    def __setstate__(self, state):
        raise ValueError('no state')


class Exits(Halves):
    def __call__(self, image):
        sys.exit(4)


class ExitsOnDark(Halves):
    def __call__(self, image):
        return super().__call__(image) if image.any() else sys.exit(4)


@pytest.fixture
def make(tmp_path, monkeypatch, capsys):
    """make_masks of two images by a generator; the exit code and the last line on stderr."""
    (tmp_path / 'in').mkdir()
    for i, value in enumerate((0, 255)):
        Image.new('RGB', (8, 6), (value,) * 3).save(tmp_path / 'in' / f'{i}.png')

    def run(generator, *more, workers='1'):
        monkeypatch.setitem(MASK_GENERATORS.module_dict, 'broken', generator)
        code = main(['make_masks', str(tmp_path / 'in'), str(tmp_path / 'out'), '--workers',
                     workers, '--generator', 'broken', *more])
        return code, capsys.readouterr().err.splitlines()[-1]
    return run


@pytest.mark.parametrize(('generator', 'words'), [
    (Raises, 'cannot be built: FileNotFoundError: no model m.onnx'),
    (ExitsAtOnce, 'cannot be built: SystemExit: needs frobnicate'),
    (Forgets, "has no attribute 'share'; __init__ must keep each argument under its name"),
    (NoDict, '"parameters" is [1], not a dict'),
    (OddMaps, '"maps" is \'2\', not a whole number'),
    (HoldsFunction, 'must be picklable'),
    (FailsToReturn, 'must be picklable')], ids=lambda one: getattr(one, '__name__', ''))
def test_a_broken_generator_is_named_and_nothing_is_written(generator, words, make, tmp_path):
    code, line = make(generator, workers='2')
    assert code == 2 and words in line and f'{__name__}.{generator.__name__}' in line
    assert not (tmp_path / 'out').exists()


def test_one_worker_needs_no_pickle(make):
    assert make(HoldsFunction)[0] == 0


def test_a_generator_that_exits_skips_the_image(make, tmp_path):
    assert make(ExitsOnDark)[0] == 0
    assert (tmp_path / 'out' / 'skipped.txt').read_text() == '0.png\tbroken: SystemExit: 4\n'


def test_a_generator_that_exits_on_every_image_makes_no_store(make):
    code, line = make(Exits)
    assert code == 2 and 'none of the 2 images' in line and 'broken: SystemExit: 4' in line


def test_a_preview_leaves_out_what_a_generator_does_not_divide(make, tmp_path):
    assert make(ExitsOnDark, '--preview', '2')[0] == 0
    assert make(Exits, '--preview', '2') == (
        2, f'densessl make_masks: none of 2 images of {tmp_path / "in"} could be drawn')


def test_nameless_generators_have_stores_of_their_own(make, tmp_path):
    class Nameless(Halves):
        name = ''
    assert make(Nameless)[0] == 0
    assert '"generator": "Nameless"' in (tmp_path / 'out' / 'masks.json').read_text()


@pytest.mark.parametrize('name', ['a.b', '.', 'a..b', 'os.path.join', 'collections.OrderedDict'])
def test_a_module_without_a_generator_is_no_generator(name, make):
    code, line = make(Halves, '--generator', name)
    assert code == 2 and f"unknown mask generator '{name}'" in line


def test_a_generator_may_be_named_by_its_module(make):
    assert make(Halves, '--generator', f'{__name__}.Halves')[0] == 0


# -- methods ---------------------------------------------------------------------------------------

class Mean(Method):
    name = 'broken'
    views = 1

    def __init__(self, backbone: dict) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone)

    def value(self, views):
        return self.backbone(views[0].image)[-1].mean()

    def loss(self, views):
        return {'loss': self.value(views)}


class NoLoss(Mean):
    def loss(self, views):
        return {'error': self.value(views)}


class ExitsInLoss(Mean):
    def loss(self, views):
        sys.exit(3)


class NoBackbone(Method):
    name = 'broken'
    views = 1

    def __init__(self, backbone: dict) -> None:
        super().__init__()
        self.encoder = build_backbone(backbone)


class RaisesAtOnce(Mean):
    def __init__(self, backbone: dict) -> None:
        raise OSError('no teacher')


@pytest.mark.parametrize('returned', [
    torch.ones((), requires_grad=True), {'loss': 0.5}, {'loss': torch.tensor(3)},
    {'error': torch.ones(2)}, {}, None, {'loss': []}, {'loss': torch.ones(())}], ids=repr)
def test_what_cannot_be_differentiated_is_refused(returned):
    with pytest.raises(UsageError, match=r'test_plugin_contracts\.Mean\.loss\(views\) must be a '
                                         r'dict of floating-point tensors .* "loss" .* gradient'):
        Mean({'type': 'timm.test_resnet'}).parse_losses(returned)


def test_losses_are_parted_as_mmengine_does():
    weight = nn.Parameter(torch.tensor([1.0, 3.0]))
    total, values = Mean({'type': 'timm.test_resnet'}).parse_losses(
        {'loss_a': weight, 'loss_b': [weight[0], weight[1]], 'accuracy': torch.tensor(0.5)})
    assert total.item() == 6 and total.requires_grad
    assert {name: value.item() for name, value in values.items()} == {
        'loss': 6, 'loss_a': 2, 'loss_b': 4, 'accuracy': 0.5}


@pytest.mark.parametrize(('method', 'code', 'words'), [
    (NoLoss, 2, 'NoLoss.loss(views) must be a dict of'),
    (ExitsInLoss, 1, 'called sys.exit(3), where --debug shows'),
    (NoBackbone, 2, 'NoBackbone must set self.backbone'),
    (RaisesAtOnce, 2, 'RaisesAtOnce) cannot be built: OSError: no teacher')])
@pytest.mark.usefixtures('surroundings')
def test_a_broken_method_ends_its_run_in_one_line(method, code, words, scenes, monkeypatch, capsys):
    monkeypatch.setitem(METHODS.module_dict, 'broken', method)
    assert main(['train', 'small/rotation_r18', '--data', str(scenes), '--work-dir', 'run',
                 '--epochs', '1', '--cfg-options', 'model.type=broken', 'views.0.size=32',
                 'model.backbone.type=timm.test_resnet', 'train_dataloader.batch_size=4',
                 'train_dataloader.num_workers=0']) == code
    assert words in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.usefixtures('surroundings')
def test_a_config_that_exits_is_named(tmp_path, capsys):
    (tmp_path / 'odd.py').write_text('raise SystemExit(7)\n')
    assert main(['train', str(tmp_path / 'odd.py')]) == 2
    assert f'config {tmp_path / "odd.py"} cannot be read: SystemExit: 7' in capsys.readouterr().err
