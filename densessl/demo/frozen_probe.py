"""The demo's probe of frozen features, repeated on labelled scenes drawn anew."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset

from densessl.backbones import feature_stages
from densessl.demo.demo import PRETRAINED, RANDOM, Demo
from densessl.probes.dense import dense_probe
from densessl.probes.frozen import architecture_of, load_measured
from densessl.probes.pixel_labels import PixelData, find_pixel_labels

SCORE = 'mIoU'


def probe_scenes(demo: Demo) -> dict[str, Any]:
    """Probe the pretrained backbone and random ones of the same architecture.

    Repetition i draws its own labelled scenes, the same for both weights, and its own random
    weights.

    Returns:
        The scores (mIoU in percent) of each repetition, by weights.
    """
    settings, device = demo.cfg.probe, 'cuda' if torch.cuda.is_available() else 'cpu'
    data = find_pixel_labels(demo.sample)
    pretrained = load_measured(demo.backbone, None, device, demo.seed)
    architecture = architecture_of([demo.backbone])
    stride = feature_stages(pretrained.module)[-1].stride
    train, val = (PixelData(data, split, settings.size, stride, False)
                  for split in ('train', 'val'))
    scores: dict[str, list[float]] = {RANDOM: [], PRETRAINED: []}
    for repeat in range(settings.repeats):
        seed = demo.seed_of(repeat)
        number = min(settings.scenes, len(train))
        drawn = Subset(train, sorted(
            np.random.default_rng(seed).permutation(len(train))[:number].tolist()))
        for weights in scores:
            backbone = (pretrained if weights == PRETRAINED
                        else load_measured(RANDOM, architecture, device, seed))
            found = dense_probe(backbone, drawn, val, data.names)['scores'][SCORE]
            scores[weights].append(round(found, 2))
        print(f'      {SCORE} {scores[RANDOM][-1]:.1f} from random weights, '
              f'{scores[PRETRAINED][-1]:.1f} from {demo.label(PRETRAINED)} weights', flush=True)
    return {'scores': scores, 'scenes': number}
