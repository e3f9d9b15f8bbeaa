"""`densessl probe` from end to end, on a trivially separable set and a small network."""
import json

import numpy as np
import pytest
import torch
from probes.test_class_images import draw_classes

from densessl.cli import main
from densessl.errors import UsageError
from densessl.export.export import export_backbone
from densessl.probes.classify import accuracies, most_frequent
from densessl.probes.frozen import architecture_of, load_measured

SMALL = ['--size', '32', '--workers', '0']


@pytest.fixture(scope='module')
def classes(tmp_path_factory):
    return draw_classes(tmp_path_factory.mktemp('classes') / 'set', 10)


@pytest.mark.parametrize('kind', ['linear', 'knn', 'finetune'])
def test_two_colors_are_told_apart(kind, backbone18, classes, tmp_path, capsys):
    out = tmp_path / 'deep' / 'result.json'
    more = ['--epochs', '12', '--batch', '4'] if kind == 'finetune' else []
    backbones = [str(backbone18), *(['random'] if kind != 'finetune' else [])]
    assert main(['probe', *backbones, '--data', str(classes), '--kind', kind, '--out', str(out),
                 *SMALL, *more]) == 0
    results = json.loads(out.read_text())
    assert [line['file'] for line in results['results']] == backbones
    assert results['data']['training images'] == 16 and results['probe']['kind'] == kind
    for line in results['results']:
        assert set(line['scores']) == {'top1', 'per class'} and line['provenance']['mean']
        if kind == 'linear':
            assert line['scores']['top1'] == 100
        else:
            assert line['scores']['top1'] >= 75
    said = capsys.readouterr().out
    assert '50.0 % by always answering' in said and 'top1' in said and str(out) in said


def test_a_dense_probe_of_two_backbones_makes_a_table(backbone18, label_folder, tmp_path, capsys):
    out = tmp_path / 'result.json'
    assert main(['probe', str(backbone18), 'random', '--data', str(label_folder), '--out',
                 str(out), '--size', '96', '--workers', '0']) == 0
    whole = json.loads(out.read_text())
    lines, (apart,) = whole['results'], whole['differences']
    assert [set(line['iou']) for line in lines] == [{'ground', 'red', 'blue'}] * 2
    header, *table, difference, _, written = capsys.readouterr().out.splitlines()[-6:]
    first, second = (line['scores']['mIoU'] for line in lines)
    assert apart['difference'] == pytest.approx(second - first, abs=0.02)
    assert difference.startswith(f'random against {lines[0]["backbone"]}: mIoU ')
    assert header.split() == ['backbone', 'mIoU', 'mAcc', 'aAcc'] and written == str(out)
    assert [line.split()[0] for line in table] == [line['backbone'] for line in lines]
    again = tmp_path / 'again.json'
    assert main(['probe', 'random', '--backbone-type', 'torchvision.resnet18', '--data',
                 str(label_folder), '--out', str(again), '--size', '96', '--workers', '0']) == 0
    assert json.loads(again.read_text())['results'][0]['scores'] == lines[1]['scores']


def test_a_dense_probe_takes_a_part_of_the_labels(label_folder, tmp_path):
    def probed(*words):
        out = tmp_path / 'result.json'
        assert main(['probe', 'random', '--backbone-type', "torchvision.resnet18(norm='group')",
                     '--data', str(label_folder), '--out', str(out), '--size', '96', '--workers',
                     '0', *words]) == 0
        return json.loads(out.read_text())

    whole, part = probed(), probed('--fraction', '0.5', '--seed', '1')
    assert 'available' not in whole['data']
    count = whole['data']['training images']
    assert part['data']['training images'] == round(count / 2) < part['data']['available'] == count
    assert part['data']['validation images'] == whole['data']['validation images']
    assert part['results'][0]['scores'] != whole['results'][0]['scores']
    assert part == {**probed('--fraction', '0.5', '--seed', '1'), 'results': part['results']}
    backbone = whole['results'][0]['provenance']['backbone']
    assert backbone == {'type': 'torchvision.resnet18', 'norm': 'group'}


@pytest.mark.parametrize(('arguments', 'words'), [
    (['random', '--kind', 'knn', '--fraction', '0.5'], '--fraction does nothing with --kind knn'),
    *((['random', '--kind', 'knn', *given], f'{given[0]} does nothing with --kind knn: it is of '
       f'--kind dense') for given in (['--ignore', '3'], ['--map', '1=2'], ['--square'],
                                      ['--stage', '0'], ['--no-check'])),
    (['random', '--ignore', '-1'], '--ignore must be a list, each a whole number from 0 to 255, '
     'not [-1]'),
    (['random', '--ignore', '3', '300'], '--ignore must be a list, each a whole number'),
    (['random', '--map', '0=1', '0=2'], '--map must be pairs of ids from 0 to 255, '
     '[[in the files, meant], …] such as [[255, 1]], each id in the files once, not '
     '[(0, 1), (0, 2)]'),
    (['random', '--kind', 'dense', '--fraction', '0'], 'the fraction must be above 0'),
    (['random', '--kind', 'knn'], 'random weights need an architecture: --backbone-type'),
    (['nowhere.pth', '--kind', 'knn'], 'no file nowhere.pth'),
    (['BACKBONE', '--kind', 'knn', '--neighbors', '0'],
     '--neighbors must be a whole number from 1 to 2147483647, not 0'),
    (['BACKBONE', '--kind', 'linear', '--epochs', '3'], '--epochs does nothing with --kind linear'),
    (['BACKBONE', '--kind', 'knn', '--size', '8'], 'must be a whole number from 32 to 8192, not 8'),
    (['BACKBONE', '--kind', 'finetune', '--lr', '0'],
     '--lr must be a number above 0 and at most 1000000, not 0'),
    (['BACKBONE', '--kind', 'dense'], 'none of the known layouts'),
    (['BACKBONE', '--kind', 'dense', '--dataset', 'x.y'], '--dataset names sets of images in'),
    (['BACKBONE', '--kind', 'knn', '--dataset', 'torchvision.CIFAR11'],
     r"did you mean 'torchvision.CIFAR10'"),
])
def test_wrong_input_is_one_clear_line(arguments, words, backbone18, classes, tmp_path, capsys):
    arguments = [str(backbone18) if word == 'BACKBONE' else word for word in arguments]
    assert main(['probe', *arguments, '--data', str(classes), '--out',
                 str(tmp_path / 'x.json')]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1
    assert not (tmp_path / 'x.json').exists()


def test_what_a_loader_worker_says_is_one_line_too(backbone18, tmp_path, capsys):
    root = draw_classes(tmp_path / 'set', 4)
    (root / 'red' / '0.png').write_bytes(b'not an image')
    assert main(['probe', str(backbone18), '--data', str(root), '--kind', 'knn', '--size', '32',
                 '--workers', '1', '--out', str(tmp_path / 'x.json')]) == 2
    error = capsys.readouterr().err
    assert 'red/0.png: not an image' in error and error.count('\n') == 1


def test_random_weights_are_a_function_of_the_seed():
    states = [load_measured('random', 'torchvision.resnet18', 'cpu', seed).module.state_dict()
              for seed in (0, 0, 1)]
    assert torch.equal(states[0]['conv1.weight'], states[1]['conv1.weight'])
    assert not torch.equal(states[0]['conv1.weight'], states[2]['conv1.weight'])


def test_probing_changes_nothing_in_the_backbone(backbone18, classes):
    from densessl.probes.class_images import find_class_images
    from densessl.probes.classify import Finetuning, finetune_probe
    backbone = load_measured(backbone18, None, 'cpu', 0)
    before = {key: value.clone() for key, value in backbone.module.state_dict().items()}
    finetune_probe(backbone, *find_class_images(classes), 32, Finetuning(epochs=1, batch=8))
    after = backbone.module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_accuracy_per_class_weighs_classes_equally():
    labels = np.array([0, 0, 0, 1])
    found = accuracies(torch.tensor([0, 0, 0, 0]), labels)
    assert found['scores'] == {'top1': 75.0, 'per class': 50.0}
    assert most_frequent(np.array([1, 1, 0]), labels) == 25.0


def test_a_backbone_file_that_does_not_fit_says_so(backbone18, tmp_path):
    content = torch.load(backbone18, weights_only=True)
    from densessl.export.export import save_backbone
    content['meta']['backbone'] = {'type': 'torchvision.resnet34'}
    save_backbone(tmp_path / 'odd.pth', content['state_dict'], content['meta'])
    with pytest.raises(UsageError, match='does not fit the backbone that it names'):
        load_measured(tmp_path / 'odd.pth', None, 'cpu', 0)


def test_random_weights_have_the_arguments_of_the_first_files_network(make_checkpoint, classes,
                                                                       tmp_path, capsys):
    """Not the name alone: with other arguments it is another network."""
    wide, plain = (export_backbone(make_checkpoint({'type': 'torchvision.resnet18', **more}),
                                   tmp_path / f'{i}' / 'backbone.pth').path
                   for i, more in enumerate(({'norm': 'layer', 'zero_init_residual': True}, {})))
    out = tmp_path / 'result.json'
    assert main(['probe', 'random', str(wide), str(plain), '--data', str(classes), '--kind', 'knn',
                 '--out', str(out), *SMALL]) == 0
    blank, first, _ = json.loads(out.read_text())['results']
    assert blank['provenance']['backbone'] == first['provenance']['backbone'] == {
        'type': 'torchvision.resnet18', 'norm': 'layer', 'zero_init_residual': True}
    network = load_measured('random', architecture_of(['random', wide, plain]), 'cpu', 0).module
    assert isinstance(network.bn1, torch.nn.GroupNorm) and network.bn1.num_groups == 1
    assert not network.layer1[0].bn2.weight.any(), 'γ of the last norm of a block starts at 0'
    assert main(['probe', 'random', str(wide), '--data', str(classes), '--kind', 'knn',
                 '--backbone-type', 'torchvision.resnet18', '--out', str(out), *SMALL]) == 0
    assert json.loads(out.read_text())['results'][0]['provenance']['backbone'] == {
        'type': 'torchvision.resnet18'}
    capsys.readouterr()
