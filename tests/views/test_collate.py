"""Batches against PyTorch's own way to make and to send them."""
from __future__ import annotations

import itertools
from multiprocessing.reduction import DupFd, ForkingPickler

import numpy as np
import pytest
import torch
from torch.multiprocessing import reductions
from torch.utils.data import DataLoader, default_collate

from densessl.views.collate import ALIGNMENT, collate


def samples(count=3, *, large=False):
    """Two views of odd sizes, so that no tensor ends where the next may begin."""
    rng = np.random.default_rng(count)

    def view():
        return {'image': rng.integers(0, 256, (7, 5, 3), np.uint8),
                'mask': rng.integers(0, 300 if large else 9, (7, 5)).astype(
                    np.uint16 if large else np.uint8),
                'photometric': rng.random(8, np.float32), 'uniforms': rng.random(5), 'target': 3}

    def sample():
        views = [view(), view()]
        return {key: [one[key] for one in views] for key in views[0]}
    return [sample() for _ in range(count)]


def flat(batch):
    return {f'{key} {i}': tensor for key, views in batch.items() if isinstance(views, list)
            for i, tensor in enumerate(views)}


@pytest.mark.parametrize('large', [False, True])
def test_it_stacks_as_pytorch_does(large):
    ours = samples(large=large)
    reference = {key: [default_collate([np.asarray(sample[key][i]).astype(np.int32)
                                        if large and key == 'mask' else np.asarray(sample[key][i])
                                        for sample in ours]) for i in range(2)]
                 for key in ours[0]}
    batch = collate(ours)
    assert batch['regions'] == 1 + max(int(mask.max()) for mask in batch['mask'])
    assert flat(batch).keys() == flat(reference).keys()
    for key, tensor in flat(batch).items():
        expected = flat(reference)[key]
        assert tensor.dtype == expected.dtype and torch.equal(tensor, expected), key


def test_all_tensors_are_parts_of_one_memory():
    tensors = flat(collate(samples())).values()
    memory, = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    starts = sorted((tensor.data_ptr() - memory, tensor.nbytes) for tensor in tensors)
    assert all(start % ALIGNMENT == 0 for start, _ in starts)
    assert all(a + size <= b for (a, size), (b, _) in itertools.pairwise(starts))
    assert sum(starts[-1]) <= next(iter(tensors)).untyped_storage().nbytes()


def test_it_is_sent_as_one_handle(monkeypatch):
    if torch.multiprocessing.get_sharing_strategy() != 'file_descriptor':
        pytest.skip('tensors are not sent as file descriptors on this system')
    sent = []
    monkeypatch.setattr(reductions.reduction, 'DupFd', lambda fd: sent.append(fd) or DupFd(fd))
    ForkingPickler.dumps(collate(samples()))
    assert len(sent) == 1
    separate = {key: tensor.clone() for key, tensor in flat(collate(samples())).items()}
    ForkingPickler.dumps(separate)
    assert len(sent) == 1 + len(separate)


def test_what_arrives_is_the_same_in_shared_memory():
    here = collate(samples())
    loader = DataLoader(samples(), 3, num_workers=1, collate_fn=collate)
    there, = loader
    assert there['regions'] == here['regions'] and list(there) == list(here)
    for key, tensor in flat(there).items():
        assert tensor.is_shared() and tensor.dtype == flat(here)[key].dtype
        assert torch.equal(tensor, flat(here)[key])
