"""Fine-tuning from end to end, tiny: a drawn data set, three iterations, 64-pixel crops."""
import copy
import json

import pytest
import torch

from densessl.cli import main
from densessl.errors import UsageError
from densessl.export.export import export_backbone
from densessl.finetune.downstream_config import read_downstream_config
from densessl.finetune.finetune import finetune
from densessl.finetune.run import FinetuneRun
from densessl.finetune.weights import Weights, apply_recipe, fit_backbone, likeness, network_of

TWIN = 'downstream/fcn_r18_folder'


def test_random_and_exported_weights_are_scored(backbone18, label_folder, tiny, tmp_path, capsys):
    scores = {}
    for name, backbone in (('random', 'random'), ('own', backbone18)):
        scores[name] = finetune(FinetuneRun(TWIN, Weights.named(backbone), label_folder,
                                            fraction=0.5, options=tiny, work_dir=tmp_path / name))
    assert all(set(found) == {'mIoU', 'mAcc', 'aAcc'} for found in scores.values())
    random, own = (json.loads((tmp_path / name / 'scores.json').read_text()) for name in scores)
    assert own['scores'] == scores['own'] and own['settings']['fraction'] == 0.5
    assert own['handoff']['keys'] == {'loaded': 120, 'missing': 0, 'added': 0, 'unexpected': 0,
                                      'mismatched': 0, 'altered': 0}
    assert own['handoff']['features']['restrided'] and own['handoff']['input'] < 1e-5
    assert len(own['handoff']['features']['differences']) == 3
    assert own['provenance']['method'] == 'some_method' and random['provenance'] is None
    subsets = [(tmp_path / name / 'subset.json').read_text() for name in scores]
    assert subsets[0] == subsets[1] and len(json.loads(subsets[0])['images']) == 3
    said = capsys.readouterr().out
    for words in ('device: cpu', 'random initialization, nothing to check',
                  '120 of 120 keys loaded', 'stage 4 is re-strided',
                  'data_preprocessor.mean: [123.675, 116.28, 103.53] → [120.0, 110.0, 100.0]',
                  '3 of 6 training images', '3/3  loss', 'mIoU'):
        assert words in said
    assert 'System environment' not in said   # that is in the log file
    for name in scores:   # the second run of a process writes its own files, too
        folder = tmp_path / name
        assert any('System environment' in path.read_text() for path in folder.rglob('*.log'))
        scalars, = folder.rglob('scalars.json')
        assert '"loss"' in scalars.read_text()


@pytest.mark.slow
def test_random_weights_may_have_the_network_of_others(make_checkpoint, label_folder, tiny,
                                                       tmp_path, capsys):
    """The deep stem, the normalization and the channel order of a file, and random weights."""
    options = {**tiny, 'train_cfg.max_iters': 1, 'model.backbone.type': 'ResNetV1c'}
    file = export_backbone(make_checkpoint({'type': 'mmseg.ResNetV1c', 'depth': 18},
                                           channel_order='BGR')).path
    states = {}
    for name, backbone, like in (('own', file, None), ('alike', 'random', file),
                                 ('alone', 'random', None)):
        finetune(FinetuneRun(TWIN, Weights.named(backbone), label_folder, options=options,
                             work_dir=tmp_path / name, like=like and Weights.load(like)))
        states[name] = torch.load(tmp_path / name / 'iter_1.pth', weights_only=True)['state_dict']
    shapes = {name: {key: value.shape for key, value in state.items()}
              for name, state in states.items()}
    assert shapes['alike'] == shapes['own'] != shapes['alone']
    first = 'backbone.layer1.0.conv1.weight'
    assert not torch.allclose(states['alike'][first], states['own'][first], atol=1e-2)
    said = capsys.readouterr().out
    assert f'backbone: random, with the network and the input of {file}' in said
    assert said.count('data_preprocessor.mean: [123.675, 116.28, 103.53] → [120.0') == 2
    assert said.count('data_preprocessor.bgr_to_rgb: True → False') == 2
    record = json.loads((tmp_path / 'alike' / 'scores.json').read_text())
    assert record['like']['backbone']['type'] == 'mmseg.ResNetV1c'
    with pytest.raises(UsageError, match='random weights on another network or input'):
        finetune(FinetuneRun(TWIN, None, label_folder, options=options,
                             work_dir=tmp_path / 'alike'))
    with pytest.raises(UsageError, match=r'--like .* is for --backbone random'):
        finetune(FinetuneRun(TWIN, Weights.load(file), label_folder, options=options,
                             like=Weights.load(file)))


def test_random_weights_like_others_of_the_configs_own_network_are_plain_random_weights(
        make_checkpoint):
    cfg, target = read_downstream_config(TWIN)
    same, grouped = (Weights.load(export_backbone(make_checkpoint(
        {'type': 'torchvision.resnet18', **norm}, mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375])).path) for norm in ({}, {'norm': 'group'}))
    assert likeness(cfg, target, None, (), None) is likeness(cfg, target, same, (), None) is None
    assert likeness(cfg, target, grouped, (), None) is not None
    norm = network_of(cfg, target, grouped, (), None)['model']['backbone']['norm_cfg']
    assert (norm['type'], norm['num_groups']) == ('GN', 32)
    assert likeness(cfg, target, grouped, ('norm',), None) is None   # both keep the config's


def test_the_same_command_is_not_run_twice(label_folder, tiny, tmp_path, capsys):
    arguments = ['finetune', TWIN, '--backbone', 'random', '--data-root', str(label_folder),
                 '--work-dir', str(tmp_path / 'run'), '--cfg-options',
                 *(f'{key}={value}' for key, value in tiny.items())]
    assert main(arguments) == 0
    first = (tmp_path / 'run' / 'scores.json').stat().st_mtime_ns
    capsys.readouterr()
    assert main(arguments) == 0
    assert 'done already: mIoU' in capsys.readouterr().out
    assert main([*arguments[:6], '--seed', '1', *arguments[6:]]) == 2
    assert 'seed 0, not 1' in capsys.readouterr().err
    assert (tmp_path / 'run' / 'scores.json').stat().st_mtime_ns == first


@pytest.mark.parametrize(('options', 'words'), [
    ({'model.backbone.depth': 34}, r'120 of 216 keys loaded; 96 missing'),
    ({'model.backbone.base_channels': 32}, 'of another shape'),
])
def test_weights_that_do_not_fit_leave_no_trace(backbone18, label_folder, tiny, tmp_path, options,
                                                words):
    with pytest.raises(UsageError, match=words) as no:
        finetune(FinetuneRun(TWIN, Weights.load(backbone18), 'nowhere', options={**tiny, **options},
                             work_dir=tmp_path / 'run'))
    assert 'needs mmseg.ResNet(depth=18)' in str(no.value) and '\n' not in str(no.value)
    assert not (tmp_path / 'run').exists()


def test_places_that_a_recipe_line_keeps_are_held_against_the_weights(backbone18):
    cfg, target = read_downstream_config(TWIN)
    cfg.model.backbone.type = 'ResNetV1c'
    weights = Weights.load(backbone18)
    fit_backbone(copy.deepcopy(cfg), target, weights, (), None, False)
    with pytest.raises(UsageError, match=r'18 missing in the file \(stem\.0\.weight'):
        fit_backbone(copy.deepcopy(cfg), target, weights, ('stem',), None, False)
    fit_backbone(copy.deepcopy(cfg), target, weights, ('stem',), None, True)


def test_weights_may_have_their_places_in_several_modules(backbone18):
    cfg, target = read_downstream_config('downstream/faster_rcnn_c4_r18_voc')
    fit_backbone(copy.deepcopy(cfg), target, Weights.load(backbone18), (), None, False)
    cfg.model.roi_head.shared_head.depth = 34
    with pytest.raises(UsageError, match=r'missing in the file \(layer4\.2\.'):
        fit_backbone(cfg, target, Weights.load(backbone18), (), None, False)


def test_weights_without_a_translation_leave_no_trace(make_checkpoint, label_folder, tmp_path):
    checkpoint = make_checkpoint({'type': 'timm.convnext_atto'})
    with pytest.raises(UsageError, match=r'timm\.convnext_atto.* TIMMBackbone; .*is a ResNet'):
        finetune(FinetuneRun(TWIN, Weights.load(export_backbone(checkpoint).path), label_folder,
                             work_dir=tmp_path / 'run'))
    checkpoint = make_checkpoint({'type': 'torchvision.regnet_y_400mf'})
    with pytest.raises(UsageError, match=r'no exact translation of .torchvision\.regnet_y_400mf'):
        finetune(FinetuneRun(TWIN, Weights.load(export_backbone(checkpoint).path), label_folder,
                             work_dir=tmp_path / 'run'))
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(('change', 'words'), [
    ({'config': 'downstream/fcn_r18_foldr'}, 'did you mean'),
    ({'config': 'small/detcon_r18'}, 'is not a downstream config'),
    ({'weights': 'nowhere.pth'}, 'no file nowhere.pth'),
    ({'data_root': None}, '--data-root is needed'),
    ({'data_root': 'nowhere'}, 'no folder nowhere'),
    ({'fraction': 2.0}, 'above 0 and at most 1'),
    ({'options': {'train_cfg.max_iter': 3}}, "did you mean 'max_iters'"),
    ({'options': {'lables.ignore': 3}}, "did you mean 'labels'"),
    ({'keep': ('stm',)}, "did you mean 'stem'"),
    ({'launcher': 'pytorch'}, 'needs GPUs'),
])
def test_wrong_input_is_one_clear_line(change, words, label_folder, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = {'config': TWIN, 'data_root': label_folder, 'options': tiny, **change}
    launcher = arguments.pop('launcher', 'none')
    if launcher != 'none' and torch.cuda.is_available():
        pytest.skip('a launcher is right where there is a GPU')
    with pytest.raises(UsageError, match=words) as error:
        if 'weights' in change:
            arguments['weights'] = Weights.load(change['weights'])
        finetune(FinetuneRun(**arguments), launcher=launcher)
    assert '\n' not in str(error.value)


def test_a_stock_config_is_made_fit_for_pretrained_weights(backbone18, tmp_path):
    path = tmp_path / 'stock.py'
    path.write_text("_base_ = 'mmseg::fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py'\n")
    cfg, target = read_downstream_config(str(path))
    lines = apply_recipe(cfg, target, Weights.load(backbone18))
    assert cfg.model.backbone.type == 'ResNet' and cfg.model.pretrained is None
    assert {node.norm_cfg.type for node in (cfg.model.backbone, cfg.model.decode_head,
                                            cfg.model.auxiliary_head)} == {'BN'}
    assert cfg.model.data_preprocessor.mean == [120.0, 110.0, 100.0]
    assert [line.split(':')[0] for line in lines] == [
        'model.pretrained', 'backbone.type', 'why', 'norm_cfg', 'data_preprocessor.mean',
        'data_preprocessor.std', 'why']
    frozen, _ = read_downstream_config(str(path))
    frozen.model.backbone.norm_cfg.requires_grad = False
    lines = [line.split(':')[0] for line in apply_recipe(frozen, target, Weights.load(backbone18))]
    after = lines.index('norm_cfg.requires_grad') + 1
    assert lines[after] == 'why'       # frozen BN has its price, another kind of BN has none
    kept, _ = read_downstream_config(str(path))
    lines = apply_recipe(kept, target, Weights.load(backbone18), keep=('stem', 'norm', 'input'))
    assert kept.model.backbone.type == 'ResNetV1c'
    assert [line.partition(' (')[0] for line in lines[1:]] == [
        'kept as in the config: mean, std and channel order',
        'kept as in the config: the kind of BN and whether it is trained',
        'kept as in the config: the stem']


def test_only_part_of_the_network_is_trained(backbone18, label_folder, tiny, tmp_path, capsys):
    """The frozen weights and BN statistics end as they began; the others do not."""
    arguments = ['finetune', TWIN, '--backbone', str(backbone18), '--data-root', str(label_folder),
                 '--work-dir', str(tmp_path / 'run'), '--freeze', '2', '--cfg-options',
                 *(f'{key}={value}' for key, value in tiny.items())]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert 'backbone.frozen_stages: 2 (--freeze: the stem and stages 1–2 stay as loaded)' in said
    assert 'training 11.' in said or 'training 10.' in said
    before = torch.load(backbone18, weights_only=True)['state_dict']
    after = torch.load(tmp_path / 'run' / 'iter_3.pth', weights_only=True)['state_dict']
    for key, value in before.items():
        frozen = key.startswith(('conv1', 'bn1', 'layer1', 'layer2'))
        assert torch.equal(after[f'backbone.{key}'], value) == frozen, key
    arguments[7] = str(tmp_path / 'other')
    assert main([*arguments[:9], '5', *arguments[10:]]) == 2
    assert main([*arguments, '--keep', 'frozen']) == 2
    err = capsys.readouterr().err
    assert 'has 4 stages; give 0' in err and 'contradict each other' in err


def test_a_backbone_that_cannot_be_frozen_is_named():
    cfg, target = read_downstream_config(TWIN)
    cfg.model.backbone = dict(type='UNet')
    with pytest.raises(UsageError, match=r'stages of a UNet; it can those of .*Swin'):
        apply_recipe(cfg, target, None, freeze=1)
