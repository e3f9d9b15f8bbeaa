"""The dense probe: its score against counting pixels, its head on features that hold the labels."""
import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from densessl.errors import UsageError
from densessl.labels.data_check import check_data
from densessl.labels.pixel_labels import PixelData, find_pixel_labels, label_reports
from densessl.labels.segmentation import Confusion
from densessl.probes.dense import (
    Kept,
    channel_statistics,
    dense_probe,
    objective,
    score_head,
    solve_head,
)
from densessl.probes.frozen import Measured

CPU = torch.device('cpu')


def naive_scores(predicted, true, classes):
    """Class by class and pixel by pixel, over all images together."""
    ious, recalls, right, all_known = [], [], 0, 0
    pairs = [(int(p), int(t)) for a, b in zip(predicted, true, strict=True)
             for p, t in zip(a.flatten(), b.flatten(), strict=True) if t != 255]
    for c in range(classes):
        both = sum(p == c and t == c for p, t in pairs)
        either = sum(p == c or t == c for p, t in pairs)
        truly = sum(t == c for _, t in pairs)
        right, all_known = right + both, all_known + truly
        if either:
            ious.append(both / either)
        if truly:
            recalls.append(both / truly)
    return {'mIoU': 100 * np.mean(ious), 'mAcc': 100 * np.mean(recalls),
            'aAcc': 100 * right / all_known}


def test_scores_against_counting_pixels():
    generator = torch.Generator().manual_seed(0)
    true = [torch.randint(0, 4, (9, 7 + i), generator=generator) for i in range(3)]
    predicted = [torch.randint(0, 5, (9, 7 + i), generator=generator) for i in range(3)]
    for label in true:
        label[label == 3] = 255         # class 3 has no pixels, but may be predicted;
    confusion = Confusion(6)            # class 4 is only ever predicted, class 5 never occurs
    for a, b in zip(predicted, true, strict=True):
        confusion.add(a, b.to(torch.uint8))
    assert confusion.scores() == pytest.approx(naive_scores(predicted, true, 6))
    assert confusion.iou()[5].isnan() and confusion.iou()[4] == 0
    perfect = Confusion(2)
    perfect.add(torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert perfect.scores() == {'mIoU': 100.0, 'mAcc': 100.0, 'aAcc': 100.0}


def kept_with_labels(images=6, scale=1.0):
    """Maps whose channels say the class of each 4×4 block of pixels, two sizes of image."""
    rng, kept = np.random.default_rng(0), Kept([], [])
    for i in range(images):
        cells = torch.tensor(rng.integers(0, 3, (6, 6 + 2 * (i % 2))))
        noise = torch.tensor(rng.normal(size=(4, *cells.shape)))
        signal = torch.nn.functional.one_hot(cells, 4).permute(2, 0, 1) + 0.05 * noise
        kept.maps.append((scale * signal).half())
        label = cells.repeat_interleave(4, 0).repeat_interleave(4, 1).to(torch.uint8)
        label[:2] = 255
        kept.labels.append(label)
    return kept


@pytest.mark.parametrize('scale', [1e-2, 1.0, 1e3])
def test_labels_that_are_in_the_features_are_read_whatever_their_scale(scale):
    kept = kept_with_labels(scale=scale)
    head = solve_head(kept, 3, CPU)
    scores = score_head(head, kept, 3, CPU).scores()
    assert scores['aAcc'] > 85          # blocks of 4×4 pixels: bilinear edges between them
    inside = [label.clone() for label in kept.labels]
    for label in inside:                # and away from the edges there is no error at all
        edge = torch.ones(4, 4, dtype=torch.bool)
        edge[1:3, 1:3] = False
        label[edge.repeat(label.shape[0] // 4, label.shape[1] // 4)] = 255
    assert score_head(head, Kept(kept.maps, inside), 3, CPU).scores()['aAcc'] == 100


def test_the_head_is_the_minimum_of_its_convex_objective():
    kept, decay = kept_with_labels(), 0.01
    head = solve_head(kept, 3, CPU, decay=decay)
    conv = head[1]
    conv.zero_grad()
    lowest = objective(head, kept, decay, backward=True)
    assert max(float(p.grad.abs().max()) for p in conv.parameters()) < 2e-4
    # the same objective, from all pixels of all images in one formula
    losses = [interpolate(head(map_[None].float()), label.shape, mode='bilinear')[0].flatten(1)
              for map_, label in zip(kept.maps, kept.labels, strict=True)]
    labels = torch.cat([label.flatten() for label in kept.labels]).long()
    together = cross_entropy(torch.cat(losses, 1).T, labels, ignore_index=255)
    assert lowest == pytest.approx(float(together + decay / 2 * conv.weight.square().sum()))
    torch.manual_seed(0)
    for _ in range(5):
        moved = copy.deepcopy(head)
        moved[1].weight.data += 0.1 * torch.randn_like(conv.weight)
        assert objective(moved, kept, decay) > lowest


def test_statistics_are_over_all_cells_of_all_maps():
    kept = kept_with_labels()
    cells = torch.cat([one.double().flatten(1) for one in kept.maps], dim=1)
    mean, std = channel_statistics(kept.maps)
    assert torch.allclose(mean.double(), cells.mean(1), atol=1e-5)
    assert torch.allclose(std.double(), cells.std(1, unbiased=False), atol=1e-5)
    mean, std = channel_statistics([torch.full((2, 3, 3), 5.0).half()])
    assert std.tolist() == [1, 1]


class Strided(nn.Module):
    """A backbone whose last map is the mean color of each 8×8 block."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return (nn.functional.avg_pool2d(x, 4), nn.functional.avg_pool2d(self.scale * x, 8))


def test_colors_are_enough_for_a_colored_data_set(label_folder):
    """The whole way from files: squares of two colors are told from the ground by color."""
    data = find_pixel_labels(label_folder)
    assert data.names == ['ground', 'red', 'blue']
    sets = [PixelData(data, split, 96, 8, False) for split in ('train', 'val')]
    image, label, small = sets[0][0]
    assert image.shape == (3, 96, 96) and label.shape == (48, 48) and small.shape == (24, 24)
    assert sorted(label.unique().tolist()) == [0, 1, 2, 255]
    meta = {'mean': [80.0] * 3, 'std': [60.0] * 3, 'channel_order': 'RGB'}
    found = dense_probe(Measured('colors', Strided(), meta), *sets, data.names)
    assert found['scores']['mIoU'] > 70 and set(found['iou']) == {'ground', 'red', 'blue'}
    assert found['channels'] == 3


def test_the_input_is_normalized_as_in_pretraining():
    meta = {'mean': [10.0, 20.0, 30.0], 'std': [1.0, 2.0, 4.0], 'channel_order': 'BGR'}
    pixel = torch.tensor([30, 20, 10], dtype=torch.uint8).view(1, 3, 1, 1)     # RGB
    seen = Measured('x', Strided(), meta).normalize(pixel)
    assert seen.flatten().tolist() == [0.0, 0.0, 0.0]
    seen = Measured('x', Strided(), {**meta, 'channel_order': 'RGB'}).normalize(pixel)
    assert seen.flatten().tolist() == [20.0, 0.0, -5.0]


# -- layouts --------------------------------------------------------------------------------------

def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.mark.parametrize('below', ['', 'VOC2012', 'VOCdevkit/VOC2012'])
def test_voc_is_recognized(tmp_path, below):
    root = tmp_path / below
    for split, name in (('train', '2007_1'), ('val', '2007_2')):
        write(root / f'JPEGImages/{name}.jpg', np.zeros((40, 60, 3), np.uint8))
        label = Image.fromarray(np.array([[0, 20, 255]], np.uint8)).convert('P')
        label.putdata([0, 20, 255])         # a palette image, as the data set has them
        (root / 'SegmentationClass').mkdir(exist_ok=True)
        label.resize((60, 40), Image.NEAREST).save(root / f'SegmentationClass/{name}.png')
        listed = root / f'ImageSets/Segmentation/{split}.txt'
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text(f'{name}\n')
    data = find_pixel_labels(tmp_path)
    assert len(data.names) == 21 and data.names[20] == 'tvmonitor'
    image, label, _ = PixelData(data, 'val', 64, 32, False)[0]
    assert image.shape == (3, 64, 96) and label.unique().tolist() == [0, 20, 255]
    (root / 'JPEGImages/2007_2.jpg').unlink()
    with pytest.raises(UsageError, match=r'1 of the 4 .*\n.*2007_2\.jpg is not there'):
        check_data(label_reports(find_pixel_labels(tmp_path))).require_usable()


def test_cityscapes_is_recognized_and_its_label_ids_translated(tmp_path):
    for split in ('train', 'val'):
        stem = tmp_path / 'leftImg8bit' / split / 'town' / 'town_0_leftImg8bit.png'
        write(stem, np.zeros((32, 64, 3), np.uint8))
        ids = np.zeros((32, 64), np.uint8)
        ids[8:16], ids[16:24], ids[24:] = 7, 33, 6      # road, bicycle, ground (not evaluated)
        write(tmp_path / 'gtFine' / split / 'town' / 'town_0_gtFine_labelIds.png', ids)
    data = find_pixel_labels(tmp_path)
    assert len(data.names) == 19
    _, label, _ = PixelData(data, 'train', 32, 32, True)[0]
    assert [int(label[row, 0]) for row in (0, 8, 16, 24)] == [255, 0, 18, 255]


def test_a_linked_city_counts(tmp_path):
    for split, city in (('train', 'here'), ('train', 'far'), ('val', 'here')):
        for path in (f'leftImg8bit/{split}/{city}/a_leftImg8bit.png',
                     f'gtFine/{split}/{city}/a_gtFine_labelIds.png'):
            write(tmp_path / path, np.full((32, 64), 7, np.uint8))
    for folder in ('leftImg8bit', 'gtFine'):
        (tmp_path / folder / 'train/far').rename(tmp_path / f'{folder} elsewhere')
        (tmp_path / folder / 'train/far').symlink_to(tmp_path / f'{folder} elsewhere')
    data = find_pixel_labels(tmp_path)
    assert [image.parent.name for image, _ in data.pairs['train']] == ['far', 'here']
    assert not check_data(label_reports(data)).faults and not any(data.strays.values())


@pytest.mark.parametrize(('folders', 'name'), [
    (('leftImg8bit', 'gtFine'), 'Cityscapes'),
    (('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'), 'PASCAL VOC')])
@pytest.mark.parametrize('given', [{'ignore': [3]}, {'ignore': [255, 3]}, {'moved': {1: 2}}])
def test_what_does_nothing_to_a_public_layout_is_refused(folders, name, given, tmp_path):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(UsageError, match=f'is laid out as {name}, whose ids are known: ids to '
                                         f'ignore or to map do nothing there; leave them out'):
        find_pixel_labels(tmp_path, **given)
    with pytest.raises(UsageError, match=r'no images for|has no ImageSets'):
        find_pixel_labels(tmp_path, [255])


def test_what_is_no_layout_is_said_in_one_line(tmp_path, label_folder):
    with pytest.raises(UsageError, match='none of the known layouts'):
        find_pixel_labels(tmp_path)
    with pytest.raises(UsageError, match='no folder'):
        find_pixel_labels(tmp_path / 'nowhere')
    with pytest.raises(UsageError, match=r'holds id 255 .*: --ignore 255'):
        check_data(label_reports(find_pixel_labels(label_folder, ignore=[]))).require_usable()
