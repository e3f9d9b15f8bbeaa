"""Distillation: whose views, which cells, what loss; teachers of any patch size."""
from __future__ import annotations

import math
import os

import cv2
import pytest
import timm
import torch
from batches import batch, teacher_file

from densessl.backbones import build_backbone, feature_maps
from densessl.cli import main
from densessl.engine.checkpoint_file import newest_checkpoint, read_checkpoint
from densessl.errors import UsageError
from densessl.export.export import export_backbone
from densessl.heads import cell_counts
from densessl.images.find import find_images
from densessl.registry import METHODS
from densessl.views.photometry import ViewPreprocessor
from densessl.views.view import AugmentedView
from densessl.weights.backbone_file import load_backbone_file, save_backbone
from densessl_plugins.distill.cache import CachedFeatures, cut_map
from densessl_plugins.distill.distill import feature_loss, on_finer_grid, pool_present
from densessl_plugins.distill.teacher import Teacher, as_fine_as

RESNET = dict(type='torchvision.resnet18')
FACTS = {'method': 'other', 'mean': [10.0, 20.0, 30.0], 'std': [40.0, 50.0, 60.0],
         'channel_order': 'BGR'}


def distill(**arguments):
    torch.manual_seed(0)
    return METHODS.build(dict(type='distill', backbone=RESNET,
                              **{'teacher': teacher_file(), **arguments})).train()


@pytest.fixture(scope='session')
def vit(tmp_path_factory):
    """A Vision Transformer with patches of 14 pixels, and an input of its own."""
    torch.manual_seed(1)
    network = {'type': 'timm.vit_tiny_patch16_224', 'patch_size': 14, 'depth': 1, 'img_size': 56}
    path = tmp_path_factory.mktemp('vit') / 'vit.pth'
    save_backbone(path, build_backbone(network).state_dict(), {**FACTS, 'backbone': network})
    return path


def test_the_loss_against_a_loop():
    torch.manual_seed(0)
    p, t = torch.randn(2, 3, 2, 2), 3 * torch.randn(2, 3, 2, 2)
    expected = 0.0
    for b in range(2):
        for y in range(2):
            for x in range(2):
                u, v = p[b, :, y, x].tolist(), t[b, :, y, x].tolist()
                dot = sum(i * j for i, j in zip(u, v, strict=True))
                norms = math.sqrt(sum(i * i for i in u)) * math.sqrt(sum(j * j for j in v))
                smooth = sum(d * d / 2 if d < 1 else d - 0.5 for d in
                             (abs(i - j) for i, j in zip(u, v, strict=True))) / 3
                expected += (0.9 * (1 - dot / norms) + 0.1 * smooth) / 8
    assert float(feature_loss(p, t, 0.9, 0.1)) == pytest.approx(expected, rel=1e-5)
    assert float(feature_loss(t, t, 0.9, 0.1)) == pytest.approx(0, abs=1e-6)


def test_regions_are_averaged_over_their_pixels_against_a_loop():
    torch.manual_seed(0)
    features = torch.randn(2, 3, 2, 2)
    mask = torch.randint(0, 3, (2, 8, 8))
    mask[1] = 2     # two regions that are not there
    means = []
    for b in range(2):
        for region in range(3):
            inside = (mask[b] == region).nonzero().tolist()
            if inside:
                means.append(torch.stack([features[b, :, y // 4, x // 4] for y, x in inside]
                                         ).mean(0))
    pooled = pool_present(features, cell_counts(mask, (2, 2), 3))
    torch.testing.assert_close(pooled, torch.stack(means))


def test_the_coarser_map_is_resized_to_the_finer_grid():
    coarse, fine = torch.randn(1, 2, 2, 2), torch.randn(1, 2, 4, 4)
    for a, b in ((coarse, fine), (fine, coarse)):
        x, y = on_finer_grid(a, b)
        assert x.shape[-2:] == y.shape[-2:] == (4, 4)
    assert on_finer_grid(coarse, fine)[1] is fine


@pytest.mark.parametrize('order', ['RGB', 'BGR'])
def test_the_teacher_sees_the_view_as_it_was_trained(vit, order):
    """Whatever the student's mean, std and channel order are."""
    method = distill(teacher=str(vit))
    method.data_preprocessor = ViewPreprocessor([100.0, 110.0, 120.0], [50.0, 60.0, 70.0],
                                                channel_order=order)
    pixels = torch.randint(0, 256, (2, 3, 56, 56)).float()                # RGB
    ordered = pixels.flip(1) if order == 'BGR' else pixels
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([100., 110., 120.],
                                                                      [50., 60., 70.]))
    state, meta = load_backbone_file(vit)
    backbone = build_backbone(meta['backbone'])
    backbone.load_state_dict(state)
    theirs = (pixels.flip(1) - torch.tensor(meta['mean']).view(1, 3, 1, 1)) / torch.tensor(
        meta['std']).view(1, 3, 1, 1)
    ours = method.teacher.features((ordered - mean) / std, method.data_preprocessor)
    torch.testing.assert_close(ours, feature_maps(backbone, theirs)[-1], rtol=1e-4, atol=1e-4)
    assert ours.shape == (2, 192, 4, 4)


def test_the_teacher_is_frozen_and_in_no_checkpoint():
    method = distill()
    before = {key: value.clone() for key, value in method.teacher.module.state_dict().items()}
    method.init_weights()
    method.loss(batch(1))['loss'].backward()
    assert not any(key.startswith('teacher') for key in method.state_dict())
    assert not method.teacher.module.training
    for key, value in method.teacher.module.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_student_of_another_grid_and_family_learns(vit):
    torch.manual_seed(0)
    method = METHODS.build(dict(type='distill_regions', teacher=str(vit), backbone=dict(
        type='timm.convnext_atto'))).train()
    views = batch(1, size=56)
    optimizer = torch.optim.AdamW(method.parameters(), 1e-3)
    losses = []
    for _ in range(4):
        loss = sum(method.loss(views).values())
        losses.append(float(loss))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


def run(scenes, *options, more=()):
    return main(['train', 'small/distill_r18', '--data', str(scenes), '--work-dir', 'run',
                 '--epochs', '1', *more, '--cfg-options', 'train_dataloader.batch_size=4',
                 'train_dataloader.num_workers=0', 'log_interval=1', 'views.0.size=56',
                 'model.teacher_size=None', *options])


@pytest.mark.usefixtures('surroundings')
def test_a_run_names_its_teacher_and_is_resumed_with_the_same_one(scenes, vit, tmp_path, capsys):
    teacher = tmp_path / 'mine.pth'
    teacher.write_bytes(vit.read_bytes())
    options = [f'model.teacher={teacher}', 'checkpoint.every_epochs=0.34', 'checkpoint.keep=9']
    assert run(scenes, *options) == 0
    assert 'learned from the teacher mine.pth (timm.vit_tiny' in capsys.readouterr().out
    last = newest_checkpoint('run')
    link = export_backbone(last).meta['teacher']
    assert link['sha256'] == load_backbone_file(vit)[1]['sha256'] and link['file'] == 'mine.pth'
    whole = read_checkpoint(last)['state_dict']
    last.unlink()
    moved = teacher.rename(tmp_path / 'moved.pth')
    assert run(scenes, *options, f'model.teacher={moved}', more=['--resume']) == 0
    moved.rename(teacher)
    again = read_checkpoint(last)['state_dict']
    assert all(torch.equal(value, again[key]) for key, value in whole.items())
    last.unlink()
    state, meta = load_backbone_file(vit)
    save_backbone(teacher, {key: 2 * value for key, value in state.items()}, meta)
    assert run(scenes, *options, more=['--resume']) == 2
    assert 'sha256 of the teacher' in capsys.readouterr().err
    reads = {**{key: value for key, value in meta.items() if key != 'sha256'},
             'mean': [1.0, 2.0, 3.0]}
    save_backbone(teacher, state, reads)      # the same weights, another input
    assert run(scenes, *options, more=['--resume']) == 2
    assert 'network and input of the teacher' in capsys.readouterr().err
    other = teacher_file()      # whose maps have another number of channels
    assert run(scenes, *options, f'model.teacher={other}', more=['--resume']) == 2
    assert 'sha256 of the teacher' in capsys.readouterr().err


def test_a_part_of_a_map_is_what_the_teacher_has_there():
    """Values that are linear in x and y are found again at the centers of the part's cells."""
    y, x = torch.meshgrid(torch.arange(8.) + 0.5, torch.arange(12.) + 0.5, indexing='ij')
    whole = torch.stack([y, x])[None]                  # of an image of 80 × 120, 10 pixels a cell
    part = cut_map(whole, (20, 30, 40, 60), (80, 120), 4)[0]
    centers = torch.arange(4.) + 0.5
    torch.testing.assert_close(part[0], (2 + centers)[:, None].expand(4, 4))
    torch.testing.assert_close(part[1], (3 + 1.5 * centers)[None].expand(4, 4))


@pytest.mark.usefixtures('surroundings')
def test_cached_features_are_those_of_the_whole_image_and_made_once(scenes, vit, monkeypatch):
    images = find_images(scenes)
    teacher = distill(teacher=str(vit)).teacher
    cached = CachedFeatures(images, teacher, 112)
    assert cached.build(images, teacher) == 12 and cached.build(images, teacher) == 0
    cached.path(3).unlink()
    assert cached.build(images, teacher) == 1
    whole = cached.path(5).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1       # of the features: found when they are read
    cached.path(5).write_bytes(flipped)
    with pytest.raises(UsageError, match=r'cannot be read .*: delete it'):
        cached.cut(5, AugmentedView(size=112), (0, 0, 80, 80), False, (80, 80))
    for damage in (b'', b'junk', whole[:-100]):
        cached.path(5).write_bytes(damage)
        with pytest.raises(UsageError, match=r'0000005\.npz, features of the teacher, cannot be'):
            cached.cut(5, AugmentedView(size=112), (0, 0, 80, 80), False, (80, 80))
        assert cached.build(images, teacher) == 1
    pixels = cv2.resize(images.read(0), (112, 112), interpolation=cv2.INTER_CUBIC)
    expected = teacher.whole(pixels)                                          # (192, 8, 8)
    view = AugmentedView(size=112)
    for flip in (False, True):      # the whole image in a view of its size: each cell itself
        cut = torch.from_numpy(cached.cut(0, view, (0, 0, 80, 80), flip, (80, 80)))
        assert cut.shape == (192, 8, 8) and cut.dtype == torch.float16
        mixed = torch.nn.functional.avg_pool2d(torch.nn.functional.interpolate(
            expected[None], scale_factor=2, mode='bilinear'), 2)[0]
        inner = (mixed.flip(-1) if flip else mixed)[:, 1:-1, 1:-1]
        torch.testing.assert_close(cut[:, 1:-1, 1:-1].float(), inner, atol=0.02, rtol=0.02)


@pytest.mark.usefixtures('surroundings')
def test_cached_features_are_of_this_teacher_and_of_the_images_as_they_are(scenes, vit, tmp_path):
    state, meta = load_backbone_file(vit)
    plain = {key: value for key, value in meta.items() if key != 'sha256'}
    for name, changed in (('rgb', {'channel_order': 'RGB'}), ('mean', {'mean': [1.0, 2.0, 3.0]})):
        save_backbone(tmp_path / f'{name}.pth', state, {**plain, **changed})
    folder = tmp_path / 'images'
    folder.mkdir()
    for path in sorted(scenes.iterdir())[:3]:
        (folder / path.name).write_bytes(path.read_bytes())
    images = find_images(folder)
    for file in (vit, tmp_path / 'rgb.pth', tmp_path / 'mean.pth'):    # one hash, three inputs
        teacher = distill(teacher=str(file)).teacher
        cached = CachedFeatures(images, teacher, 112)
        assert cached.build(images, teacher) == 3
    first, second = (images.path(i) for i in (0, 1))
    time = first.stat().st_mtime_ns - 10 ** 9
    first.write_bytes(second.read_bytes() + b' ')       # another picture, and an older one
    os.utime(first, ns=(time, time))
    assert cached.build(images, teacher) == 1


def test_features_that_float16_cannot_hold_are_not_kept(scenes, tmp_path):
    state, meta = load_backbone_file(teacher_file())
    key = next(key for key in reversed(state) if key.endswith('bn2.weight'))
    save_backbone(tmp_path / 'large.pth', {**state, key: state[key].abs() * 1e8 + 1e8},
                  {name: value for name, value in meta.items() if name != 'sha256'})
    images = find_images(scenes)
    teacher = distill(teacher=str(tmp_path / 'large.pth'), teacher_stage=-1).teacher
    with pytest.raises(UsageError, match=r'float16, as they are kept, cannot hold: give model\.ca'):
        CachedFeatures(images, teacher, 112).build(images, teacher)


@pytest.mark.usefixtures('surroundings')
def test_a_run_on_cached_features(scenes, vit, monkeypatch):
    monkeypatch.setattr(Teacher, 'features', None)      # no view is shown to it
    assert run(scenes, f'model.teacher={vit}', 'model.cached=112', 'views.0.size=60') == 0
    assert newest_checkpoint('run').name == 'iter_3.pth'


@pytest.mark.usefixtures('surroundings')
@pytest.mark.parametrize(('options', 'words'), [
    ([], 'a teacher is needed: --cfg-options model.teacher=FILE'),
    (['model.teacher=gone.pth'], 'no weights to start from at gone.pth'),
    (['model.teacher=VIT', 'model.cached=None', 'views.0.size=100'],
     'views.0.size 100: the teacher vit.pth takes multiples of its 14 pixels a cell; give 98 or '
     '112, or resize for it with model.teacher_size'),
    (['model.teacher=VIT', 'model.cached=None', 'model.teacher_size=60'],
     'model.teacher_size 60: the teacher vit.pth takes multiples of its 14 pixels a cell; give 56'),
    (['model.teacher=VIT', 'model.teacher_size=112'],
     'model.teacher_size 112 does nothing beside model.cached 256: give model.cached=None'),
    (['model.teacher=VIT', 'model.teacher_stage=3'], 'model.teacher_stage 3: stage 3: the back'),
    (['model.teacher=VIT', 'model.cosine=0', 'model.l1=0'], 'so that nothing is learned'),
    (['model.teacher=VIT', 'model.teacher_as=timm.resnet18'],
     'says what it is; leave out model.teacher_as'),
])
def test_bad_teachers_are_one_line_and_nothing_is_written(options, words, scenes, vit, tmp_path,
                                                          capsys):
    assert run(scenes, *(option.replace('VIT', str(vit)) for option in options)) == 2
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1, error
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(('stride', 'strides', 'position'), [
    (16, [2, 4, 8, 16, 32], 3), (32, [4, 8, 16, 32], 3), (8, [4, 8, 16, 32], 1),
    (16, [14, 14, 14], 2), (8, [16, 16], 1), (2, [4, 8], 0)])
def test_the_teachers_map_is_as_fine_as_the_students(stride, strides, position):
    assert as_fine_as(stride, strides) == position


def test_a_file_of_dinov2s_authors_is_read_as_the_network_that_is_named(tmp_path):
    """Its mask token is no part of what computes features."""
    model = timm.create_model('vit_small_patch14_dinov2', depth=1)
    path = tmp_path / 'dinov2.pth'
    torch.save({**model.state_dict(), 'mask_token': torch.zeros(1, 384)}, path)
    teacher = distill(teacher=str(path),
                      teacher_as='timm.vit_small_patch14_dinov2(depth=1)').teacher
    assert teacher.link['method'] == 'dinov2' and teacher.stride == 14
    assert teacher.meta['mean'] == pytest.approx([123.675, 116.28, 103.53])


def test_the_teacher_need_not_be_given_twice_as_large_a_view(vit):
    method = distill(teacher=str(vit), teacher_size=112)
    assert method.teacher.features(torch.randn(1, 3, 56, 56), torch.nn.Identity()).shape[-1] == 8
    with pytest.raises(UsageError, match='no weights to start from'):
        distill(teacher='nowhere.pth')
