"""Batches for a device are read one ahead, in their order, and no more than will be asked for."""
from __future__ import annotations

import torch

from densessl.training.prefetch import DeviceBatches


def test_one_ahead_in_order_and_no_more_than_asked_for():
    fetched = []

    def fetch():
        fetched.append(len(fetched))
        return {'image': [torch.full((2, 3), fetched[-1])], 'photometric': [torch.ones(2, 10)],
                'regions': fetched[-1]}
    batches = DeviceBatches(fetch, torch.device('cpu'), 3)
    assert fetched == [], 'nothing before it is asked for'
    seen, ahead = [], []
    for _ in range(3):
        batch = batches.next()
        seen.append((batch['regions'], int(batch['image'][0].unique())))
        ahead.append(len(fetched))
    assert seen == [(0, 0), (1, 1), (2, 2)]
    assert ahead == [2, 3, 3]


def test_only_what_the_device_needs_goes_there():
    batch = {'image': [torch.zeros(2, 4, 4, 3)], 'mask': [torch.zeros(2, 4, 4)],
             'photometric': [torch.ones(2, 10)], 'regions': 5}
    batches = DeviceBatches(lambda: batch, torch.device('meta'), 1)
    got = batches.next()
    assert {key: got[key][0].device.type for key in ('image', 'mask', 'photometric')} == {
        'image': 'meta', 'mask': 'meta', 'photometric': 'cpu'}
    assert got['regions'] == 5 and got['photometric'][0] is batch['photometric'][0]
