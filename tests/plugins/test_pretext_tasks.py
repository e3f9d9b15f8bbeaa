"""Labels against naive constructions; answers that need no looking at objects are not there."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from batches import batch_for

from densessl.errors import UsageError
from densessl.method import View
from densessl.registry import METHODS
from densessl_plugins.pretext.jigsaw import shuffle
from densessl_plugins.pretext.patches import PatchGrid, standardize
from densessl_plugins.pretext.relative_location import MIDDLE, NEIGHBORS, all_pairs
from densessl_plugins.pretext.rotation import all_rotations

BACKBONE = dict(type='torchvision.resnet18')
TASKS = {'rotation': {}, 'relative_location': dict(hidden=32, dropout=0.0),
         'jigsaw': dict(permutations=8, code=16)}


def build(name, **kwargs):
    torch.manual_seed(0)
    method = METHODS.build(dict(type=name, backbone=BACKBONE, **{**TASKS.get(name, {}), **kwargs}))
    method.init_weights()
    return method.train()


def test_turning_back_gives_the_image():
    image = torch.randn(3, 3, 8, 8)
    rotated, turns = all_rotations(image)
    assert turns.bincount().tolist() == [3, 3, 3, 3]
    for k, (turned, turn) in enumerate(zip(rotated, turns, strict=True)):
        back = torch.from_numpy(np.rot90(turned.numpy(), -int(turn), (1, 2)).copy())
        assert torch.equal(back, image[k % 3])


def test_a_neighbors_class_is_where_it_lies():
    """Features that are the patches' own (row, column): the class must follow from geometry."""
    places = torch.tensor([(row, column) for row in range(3) for column in range(3)]).float()
    pairs, labels = all_pairs(places.expand(2, 9, 2))
    assert pairs.shape == (16, 4) and labels.tolist() == [*range(8)] * 2
    offsets = {(-1, -1): 0, (-1, 0): 1, (-1, 1): 2, (0, -1): 3, (0, 1): 4, (1, -1): 5, (1, 0): 6,
               (1, 1): 7}
    for (row, column, other_row, other_column), label in zip(pairs.tolist(), labels, strict=True):
        assert (row, column) == divmod(MIDDLE, 3)
        assert offsets[other_row - row, other_column - column] == label
    assert sorted([*NEIGHBORS, MIDDLE]) == list(range(9))


def test_the_puzzle_can_be_reassembled():
    method = build('jigsaw')
    tiles = torch.randn(5, 9, 3, 4, 4)
    puzzle = method.draw(torch.tensor([0.0, 0.13, 0.5, 0.7, 0.99999997]))
    assert puzzle.tolist() == [0, 1, 4, 5, 7]
    shuffled = shuffle(tiles, method.permutations[puzzle])
    for b, label in enumerate(puzzle):
        for place, tile in enumerate(method.permutations[label]):
            assert torch.equal(shuffled[b, place], tiles[b, tile])
        put_back = torch.empty_like(tiles[b])
        put_back[method.permutations[label]] = shuffled[b]
        assert torch.equal(put_back, tiles[b])


def test_shuffling_codes_is_shuffling_tiles():
    """The tiles' codes are shuffled after encoding: the same answer as for shuffled pixels."""
    method = build('jigsaw').eval()
    view, = batch_for(method, samples=3)
    order = method.permutations[method.draw(view.uniforms[:, 0])]
    pixels = View(image=shuffle(view.image, order), uniforms=torch.zeros(3, 1))   # the identity
    assert method.permutations[0].tolist() == list(range(9))
    seen = []
    method.classifier.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0]))
    with torch.no_grad():
        method.loss([view])
        method.loss([pixels])
    torch.testing.assert_close(seen[0], seen[1], atol=1e-4, rtol=1e-4)


def blank(name, samples, seed):
    """Views of images of one random color each, cut as this method's are."""
    g = torch.Generator().manual_seed(seed)
    color = torch.randn(samples, 3, 1, 1, generator=g)
    image = color.expand(-1, -1, 48, 48)
    if name != 'rotation':
        image = image[:, None].expand(-1, 9, -1, -1, -1)
    return [View(image=image.contiguous(), uniforms=torch.rand(samples, 4, generator=g))]


@pytest.mark.parametrize('name, chance', [('rotation', 1 / 4), ('relative_location', 1 / 8)])
def test_blank_images_teach_nothing(name, chance):
    """After training on them, every image gets one and the same answer for all of its parts."""
    method = build(name, **({'standardize': False} if name != 'rotation' else {}))
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01)
    for step in range(3):
        optimizer.zero_grad()
        method.loss(blank(name, 4, step))['loss'].backward()
        optimizer.step()
    with torch.no_grad():
        assert method.eval().loss(blank(name, 4, 9))['accuracy'] == pytest.approx(chance)


def test_blank_tiles_do_not_tell_their_order():
    method = build('jigsaw', standardize=False).eval()
    view, = blank('jigsaw', 4, 0)
    outs = []
    method.classifier.register_forward_hook(lambda _, inputs, out: outs.append(out))
    with torch.no_grad():
        for uniform in (0.1, 0.9):
            method.loss([View(image=view.image, uniforms=torch.full((4, 1), uniform))])
    torch.testing.assert_close(outs[0], outs[1])


def test_brightness_and_tint_of_a_patch_do_not_tell_its_place():
    """A ramp of light and color across the image: every standardized patch of it is the same."""
    y, x = np.mgrid[:144, :144]
    ramp = np.stack([x, y, 143 - x], 2).astype(np.uint8)
    view = PatchGrid(patch=32, grid=3, shift=16, resize=144)
    boxes, flip, _ = view.draw(np.random.default_rng(0), 144, 144)
    cut = torch.from_numpy(view.cut(ramp, boxes, flip)).permute(0, 3, 1, 2).float()
    assert cut.mean((2, 3)).std(0).min() > 20, 'before, the mean tells the place'
    patches = standardize(cut)
    torch.testing.assert_close(patches, patches[:1].expand_as(patches), atol=1e-3, rtol=0)
    torch.testing.assert_close(patches.mean((2, 3)), torch.zeros(9, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(patches.std((2, 3), correction=0), torch.ones(9, 3), atol=1e-5,
                               rtol=0)
    assert torch.equal(standardize(torch.full((1, 3, 8, 8), 0.3)), torch.zeros(1, 3, 8, 8))


def test_whole_images_are_refused_where_patches_are_needed():
    with pytest.raises(UsageError, match='views of patches'):
        build('jigsaw').loss([View(image=torch.zeros(2, 3, 48, 48), uniforms=torch.zeros(2, 1))])
