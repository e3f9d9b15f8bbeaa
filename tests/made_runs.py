"""Work folders of pretraining runs as they are left behind, without the hours that they take."""
from __future__ import annotations

import json
import math

import numpy as np

from densessl.pictures import figures
from densessl.training.picture_hook import draw_steps

STEPS, INTERVAL = 400, 10
SEEN_AT = (0, 12, 25, 50, 100, 200, 300, 400)
COLLAPSE = {'step': 90, 'name': 'collapse', 'mend': 'lower the learning rate',
            'text': 'the features of a batch are nearly the same (spread 0.012 of 1)'}


def make_run(folder, *, collapses=False, start=None, probed=True, record=True, pictures=True,
             steps=STEPS, file='image.jpg'):
    """A run that learns, or collapses at step 90; ``start``: mIoU of the weights it starts from."""
    log = folder / '20260101_101010' / 'vis_data'
    log.mkdir(parents=True)
    lines = [figures_at(step, collapses) for step in range(INTERVAL, steps + 1, INTERVAL)]
    (log / 'scalars.json').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    (log / 'config.py').write_text("model = dict(type='some_method')\n")
    write_lines(folder / 'health.jsonl', [
        {'step': line['step'], 'rank_backbone': 60 * line['spread'] / 0.4,
         'negative_similarity': 1 - line['spread'], 'regions_a_view': 5.5} for line in lines])
    write_lines(folder / 'alarms.jsonl', [COLLAPSE] if collapses else [])
    if probed:
        begin = start or 11.0
        write_lines(folder / 'probes.jsonl', [
            {'step': step, 'mIoU': probe_at(step, begin, collapses), 'start': begin,
             'propagation': probe_at(step, begin, collapses) - 2}
            for step in range(0, steps + 1, 50)])
    if record:
        (folder / 'pretraining.json').write_text(json.dumps(record_of(start)))
    if pictures:
        draw_pictures(folder / 'pictures', collapses, file)
    return folder


def figures_at(step, collapses):
    gone = collapses and step >= 80
    return {'step': step, 'loss': 0.02 if gone else 4 * math.exp(-step / 150) + 1, 'lr': 0.1,
            'time': 0.5, 'data_time': 0.01, 'images_per_s': 64.0, 'waiting': 0.02,
            'spread': 0.01 if gone else 0.3 + 0.1 * step / STEPS}


def probe_at(step, begin, collapses):
    return begin - 8 * min(1, step / 100) if collapses else begin + 9 * (1 - math.exp(-step / 120))


def record_of(start):
    provenance = {'method': 'some_method', 'config': 'some_config', 'images': 1000, 'epochs': 13,
                  'global_batch': 32, 'seed': 0, 'backbone': {'type': 'torchvision.resnet18'},
                  'densessl': '0.1', 'torch': '2.4'}
    if start:
        provenance['start'] = [{'file': 'imagenet.pth', 'network': 'resnet18'}]
    return {'begun': '20260101_101010', 'provenance': provenance, 'iterations': STEPS,
            'accumulate': 1, 'lr': 0.1, 'data': 'photos', 'device': 'cpu', 'processes': 1,
            'masks': {'generator': 'squares', 'parameters': {'size': 4}}, 'notes': [],
            'machine': {'processor': 'some processor', 'accelerator': 'none'}, 'versions': {}}


def write_lines(path, lines):
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))


def draw_pictures(folder, collapses, file):
    """Two scenes of two objects, which the features tell apart better and better."""
    folder.mkdir()
    rng, names = np.random.default_rng(0), [file, 'second.jpg']
    objects = np.zeros((2, 14, 14), int)
    objects[0, 3:9, 2:8], objects[0, 6:12, 9:13] = 1, 2
    objects[1, 2:11, 4:11], objects[1, 9:13, 1:4] = 2, 1
    for step in SEEN_AT:
        share = 0.05 if collapses and step > 50 else 0.2 + 0.8 * step / STEPS
        features = np.eye(8)[objects + 1] * share + 0.1 * share * rng.random((2, 14, 14, 8))
        features[..., 0] += 1
        features /= np.linalg.norm(features, axis=-1, keepdims=True)
        np.save(folder / f'features_{step:08d}.npy', features.astype(np.float16))
    draw_steps(folder, list(SEEN_AT))
    colors = np.array([(60, 110, 70), (200, 60, 40), (50, 80, 190)], np.uint8)
    for i, scene in enumerate(colors[objects]):
        picture = np.kron(scene, np.ones((16, 16, 1), np.uint8))
        figures.write_picture(folder / f'image_{i}.png', picture)
        for j in range(3):
            figures.write_picture(folder / f'sample_{i}_{j}.jpg', picture)
    (folder / 'pictures.json').write_text(json.dumps(
        {'images': names, 'steps': list(SEEN_AT), 'input': 448, 'seconds': 3.5}))
