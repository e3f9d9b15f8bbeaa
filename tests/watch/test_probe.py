"""The probe of a run: its head against scikit-learn's, its scores, and that it changes nothing."""
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from densessl.errors import RunFailed, UsageError
from densessl.features.classifiers import fit_linear
from densessl.labels.coco_pixels import draw
from densessl.pixels.pixel_rule import PLAIN
from densessl.watch.labelled import (
    Pixels,
    ProbeSettings,
    find_items,
    probe_settings,
    read_labelled,
)
from densessl.watch.probe import cell_labels, fixed_cells, left_alone, probe_backbone

ONES = {'mean': [0.0] * 3, 'std': [1.0] * 3}


class Cells(nn.Module):
    """One map of stride 8: the mean color of each cell, behind what a probe must not touch."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm2d(3), nn.Dropout(0.5)
        self.pool = nn.AvgPool2d(8)

    def forward(self, x):
        return (self.pool(self.drop(self.norm(x))),)


def test_the_head_is_that_of_scikit_learn():
    """Mean cross-entropy + λ/2 · ‖W‖² of standardized features is its C = 1 / (N λ)."""
    linear_model = pytest.importorskip('sklearn.linear_model')
    g = torch.Generator().manual_seed(0)
    features = torch.randn(300, 12, generator=g) * torch.linspace(0.1, 5, 12)
    labels = (features @ torch.randn(12, 4, generator=g)
              + torch.randn(300, 4, generator=g)).argmax(1)
    ours = fit_linear(features, labels, classes=4, decay=1e-2, iterations=100)
    inputs = ((features - features.mean(0)) / features.std(0, unbiased=False)).numpy()
    theirs = linear_model.LogisticRegression(C=1 / (300 * 1e-2), tol=1e-8, max_iter=1000)
    theirs.fit(inputs, labels.numpy())
    np.testing.assert_allclose(ours.weight.T.numpy(), theirs.coef_, atol=2e-3)
    np.testing.assert_array_equal(ours(features).argmax(1), theirs.predict(inputs))


def test_a_cell_has_the_class_of_most_of_its_labelled_pixels():
    label = torch.tensor([[0, 0, 2, 2], [1, 255, 2, 255], [255, 255, 1, 0], [255, 1, 1, 0]])
    assert cell_labels(label.byte(), (2, 2), 3).tolist() == [0, 2, 255, 0]


def test_the_same_cells_are_taken_whatever_the_features():
    labels = [torch.randint(0, 3, (16, 24), generator=torch.Generator().manual_seed(i)).byte()
              for i in range(3)]
    one, two = ([torch.full((5, 4, 6), float(i)) + torch.arange(24).view(4, 6) * scale
                 for i in range(3)] for scale in (1e-3, 2e-3))
    (a, first), (b, second) = (fixed_cells(maps, labels, 3, 20) for maps in (one, two))
    assert len(first) <= 20 and torch.equal(first, second)
    assert torch.equal(a.floor(), b.floor()) and set(a[:, 0].long().tolist()) == {0, 1, 2}


def test_features_that_hold_the_labels_score_high_and_others_do_not(label_folder):
    settings = ProbeSettings(str(label_folder), size=96)
    data = read_labelled(settings, PLAIN)
    assert data.names == ['ground', 'red', 'blue'] and len(data.val.images) == 2
    assert data.train.images[0].shape == (3, 96, 96) and data.train.labels[0].shape == (24, 24)
    good = probe_backbone(Cells(), data, settings, ONES)
    assert good.mIoU > 70 and good.propagation > 70

    class Blind(Cells):
        def forward(self, x):
            return (self.pool(x.mean((2, 3), keepdim=True).expand_as(x)),)

    blind = probe_backbone(Blind(), data, settings, ONES)
    assert blind.mIoU < 35 and blind.propagation < 35


def test_the_backbone_and_the_generators_are_left_as_they_were(label_folder):
    settings = ProbeSettings(str(label_folder), size=32)
    data = read_labelled(settings, PLAIN)
    backbone = Cells().train()
    backbone.drop.eval()
    backbone.forward = fast = lambda x: pytest.fail('what is compiled for training')
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    torch.manual_seed(7)
    state = torch.get_rng_state()
    probe_backbone(backbone, data, settings, ONES)
    assert torch.equal(torch.get_rng_state(), state)
    assert backbone.training and backbone.norm.training and not backbone.drop.training
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert backbone.forward is fast


def test_what_draws_within_a_probe_draws_from_other_generators():
    backbone = nn.Linear(1, 1)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with left_alone(backbone):
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected)


def test_channels_are_put_in_the_order_of_the_run(label_folder):
    settings = ProbeSettings(str(label_folder), size=32)
    data, seen = read_labelled(settings, PLAIN), []

    class Sees(Cells):
        def forward(self, x):
            seen.append(x)
            return super().forward(x)

    facts = {'mean': [10.0, 20.0, 30.0], 'std': [2.0, 4.0, 8.0]}
    probe_backbone(Sees(), data, settings, facts)
    rgb, n = seen[0], len(seen)
    probe_backbone(Sees(), data, settings, {**facts, 'channel_order': 'BGR'})
    mean, std = (torch.tensor(facts[key]).view(3, 1, 1) for key in ('mean', 'std'))
    torch.testing.assert_close((rgb * std + mean).flip(1), seen[n] * std + mean)
    torch.testing.assert_close(rgb[0] * std + mean, data.train.images[0].float())


def test_features_that_are_not_finite_and_unknown_stages_are_said(label_folder):
    settings = ProbeSettings(str(label_folder), size=32)
    data = read_labelled(settings, PLAIN)
    with pytest.raises(RunFailed, match='not finite'):
        probe_backbone(Cells(), data, settings, {'mean': [0.0] * 3, 'std': [0.0] * 3})
    with pytest.raises(UsageError, match=r'probe\.stage 3: the backbone has 1 maps'):
        probe_backbone(Cells(), data, ProbeSettings(str(label_folder), stage=3), ONES)
    nothing = Pixels(data.train.images, [torch.full_like(x, 255) for x in data.train.labels])
    empty = type(data)(data.names, nothing, data.val)
    with pytest.raises(UsageError, match='no pixel of the images to learn from has a label'):
        probe_backbone(Cells(), empty, settings, ONES)


@pytest.mark.parametrize('section, message', [
    ({'data': 'x', 'size': 3}, 'probe.size must be a whole number from 32 to 8192, not 3'),
    ({'data': 'x', 'interval': 0}, 'probe.interval must be'),
    ({'data': 'x', 'sise': 3}, "unknown key 'sise' in probe"),
    (7, 'probe must be text or a dict or None, not 7'),
    ({'stop_below_start': 3}, 'probe.stop_below_start goes by a probe on labelled images'),
])
def test_wrong_settings_are_refused(section, message):
    with pytest.raises(UsageError, match=message):
        probe_settings({'probe': section, 'checkpoint': {}})


def test_settings_are_a_path_or_a_dict():
    def found(section):
        return probe_settings({'probe': section, 'checkpoint': {}})
    assert found(None) is None and found({'data': None}) is None
    assert found('a').data == found({'data': 'a'}).data == 'a'
    with pytest.raises(UsageError, match=r'checkpoint\.keep_best goes by a probe'):
        probe_settings({'checkpoint': {'keep_best': True}})


def coco(folder, split, number, start=0):
    """Images with a red rectangle (class 7) over a large blue one (class 3), and a crowd."""
    (folder / split).mkdir(parents=True)
    (folder / 'annotations').mkdir(exist_ok=True)
    images, objects = [], []
    for i in range(start, start + number):
        pixels = np.full((40, 60, 3), 90, np.uint8)
        pixels[4:36, 5:35] = (0, 0, 200)
        pixels[10:20, 10:20] = (200, 0, 0)
        Image.fromarray(pixels).save(folder / split / f'{i}.png')
        images.append({'id': i, 'file_name': f'{i}.png', 'height': 40, 'width': 60})
        runs = [0, 40 * 3, 40 * 57]       # of 1 down the first three columns
        objects += [
            {'image_id': i, 'category_id': 7, 'area': 100, 'iscrowd': 0,
             'segmentation': [[10, 10, 20, 10, 20, 20, 10, 20]]},
            {'image_id': i, 'category_id': 3, 'area': 960, 'iscrowd': 0,
             'segmentation': [[5, 4, 35, 4, 35, 36, 5, 36]]},
            {'image_id': i, 'category_id': 3, 'area': 5000, 'iscrowd': 1,
             'segmentation': {'size': [40, 60], 'counts': runs}}]
    path = folder / 'annotations' / f'instances_{split}.json'
    path.write_text(json.dumps({'images': images, 'annotations': objects, 'categories': [
        {'id': 7, 'name': 'red'}, {'id': 3, 'name': 'blue'}]}))
    return path


def test_coco_annotations_become_label_maps(tmp_path):
    path = coco(tmp_path, 'train2017', 6)
    names, train, val = find_items(ProbeSettings(str(path)))      # one file: every third is val
    assert names == ['background', 'red', 'blue'] and (len(train), len(val)) == (4, 2)
    label = train[0][1]()
    assert label.shape == (40, 60) and label[15, 15] == 1 and label[25, 25] == 2
    assert label[0, 40] == 0 and (label[:, :3] == 255).all()
    assert (label == 1).sum() == 100 and (label == 2).sum() == 30 * 32 - 100
    coco(tmp_path, 'val2017', 3, start=9)
    names, train, val = find_items(ProbeSettings(str(tmp_path)))      # a folder of both
    assert (len(train), len(val)) == (6, 3)
    settings = ProbeSettings(str(tmp_path), size=96, images=4)
    data = read_labelled(settings, PLAIN)
    assert (len(data.train.images), len(data.val.images)) == (4, 2)
    assert probe_backbone(Cells(), data, settings, ONES).mIoU > 70


@pytest.mark.parametrize('shape', [
    [[1, 2, 3]], [[1e9, 0, 5, 5, 0, 9]], [['a', 'b']], {'counts': [3, 4]}, {'counts': 'ab'},
    {'counts': ''}, {'counts': '1'}, {'counts': '0000000000'}, {'counts': 'é'}, 5,
    [[float('nan'), 1, 2, 3, 4, 5]]])
def test_outlines_that_cannot_be_read_are_refused(shape):
    with pytest.raises(UsageError, match=r'x\.json has an outline'):
        draw(10, 10, [{'class': 1, 'crowd': False, 'shape': shape}], 'x.json')


def test_annotations_of_something_else_are_refused(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('{"images": []}')
    with pytest.raises(UsageError, match="cannot be used as annotations of objects in COCO's"):
        find_items(ProbeSettings(str(path)))
