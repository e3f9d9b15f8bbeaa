"""Probes: how good a backbone's features are for a task, frozen or fine-tuned."""
from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

import densessl
from densessl.backbones import feature_stages
from densessl.devices.heap import keep_freed_memory
from densessl.errors import RunFailed, UsageError
from densessl.export.named_network import parse_network
from densessl.files.json_files import write_json
from densessl.finetune.labelled_subset import choose
from densessl.images.image_list import ImageList
from densessl.images.range_survey import with_rule
from densessl.labels.data_check import check_data
from densessl.pixels.pixel_rule import KEYS, PLAIN, PixelRule
from densessl.probes.classify import (
    Finetuning,
    finetune_probe,
    knn_probe,
    linear_probe,
    most_frequent,
)
from densessl.probes.dense import dense_probe
from densessl.probes.differences import COUNTS, differences
from densessl.probes.frozen import RANDOM, Measured, architecture_of, load_measured
from densessl.probes.kinds import KINDS

Measure = Callable[[Measured], dict[str, Any]]


@dataclass(frozen=True)
class Probe:
    """What to measure; None means the kind's own default.

    Attributes:
        kind: of :data:`~densessl.probes.kinds.KINDS`. data: the data set's folder.
        dataset: ``'TARGET.NAME'`` of a set in its own format; None: a folder's layout says it.
        size: short side of images (dense) or side of crops, in pixels.
        square: resize images to squares (dense). stage: which map, finest first (dense).
        ignore: ids of pixels without label (dense). neighbors, temperature: of knn.
        map: id in label maps → id that is meant (dense). check: open all files first (dense).
        decay: of dense. epochs, lr, batch: of finetune.
        fraction: of the training images, drawn by ``seed`` (dense).
        value_range, bands: of :class:`~densessl.pixels.pixel_rule.PixelRule`; as the backbones were
            pretrained if both are None.
    """

    kind: str
    data: str
    dataset: str | None = None
    size: int = 224
    square: bool = False
    stage: int = -1
    ignore: Sequence[int] = (255,)
    map: Mapping[int, int] = field(default_factory=dict)
    check: bool = True
    fraction: float = 1.0
    neighbors: int | None = None
    temperature: float | None = None
    decay: float | None = None
    epochs: int | None = None
    lr: float | None = None
    batch: int | None = None
    seed: int = 0
    workers: int = 2
    value_range: Any = None
    bands: Sequence[int] | None = None


def run_probe(probe: Probe, backbones: Sequence[str], *, architecture: str | None = None,
              out: Path | None = None, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Measure each of ``backbones`` and write the results.

    Args:
        backbones: exported files, or ``'random'``.
        architecture: ``'TARGET.name'`` of random weights, or with arguments
            ``'TARGET.name(key=value)'``; if None the first file's, with its
            arguments.
        out: a JSON file, written after each backbone. say: told what is going on.

    Returns:
        What the file holds.

    Raises:
        UsageError: backbone, data or settings are not usable.
        RunFailed: features or loss are not finite, or there is nothing to score; what was measured
            before is in ``out``.
    """
    keep_freed_memory()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    network = None
    if RANDOM in backbones:
        network = parse_network(architecture, '--backbone-type') if architecture else (
            architecture_of(backbones))
    measured = [load_measured(one, network, device, probe.seed) for one in backbones]
    rule = _rule(probe, measured)
    measure, about, rule = (partial(_dense, say=say) if probe.kind == 'dense'
                            else _classes)(probe, rule)
    results = {'densessl': densessl.__version__, 'probe': {**asdict(probe), **rule.record()},
               'data': about, 'results': []}
    say(f'{KINDS[probe.kind]}\n{probe.data}: '
        + ', '.join(f'{value} {key}' for key, value in about.items()))
    counts: list[Any] = []
    for path, backbone in zip(backbones, measured, strict=True):
        started = time.monotonic()
        found = measure(backbone)
        counts.append(found.pop(COUNTS))
        found['scores'] = _figures(found['scores'], backbone.label)
        seconds = round(time.monotonic() - started, 1)
        results['results'].append({'backbone': backbone.label, 'file': str(path), **found,
                                   'provenance': dict(backbone.meta), 'seconds': seconds})
        words = '  '.join(f'{name} {value:.2f}' for name, value in found['scores'].items())
        say(f'{backbone.label}: {words}  ({seconds:.0f} s)')
        results['differences'] = differences(results['results'], counts)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_json(out, results)
    return results


def _rule(probe: Probe, measured: Sequence[Measured]) -> PixelRule:
    """How all of the backbones see the images: as asked, else as they were pretrained."""
    asked = {key: value for key in KEYS if (value := getattr(probe, key)) is not None}
    rules = {PixelRule.of({**PixelRule.of(one.meta, one.label).record(), **asked}): one.label
             for one in measured}
    rules.pop(PLAIN, None)
    if len(rules) > 1:
        raise UsageError('the backbones were pretrained on images read by different rules ('
                         + '; '.join(f'{label}: {rule}' for rule, label in rules.items())
                         + '): give --value-range and --bands for all of them')
    return next(iter(rules), PLAIN)


def _figures(scores: dict[str, float], label: str) -> dict[str, float]:
    """The scores to two digits, without those that had nothing to score.

    Raises:
        RunFailed: none is left.
    """
    found = {name: round(value, 2) for name, value in scores.items() if math.isfinite(value)}
    if not found:
        raise RunFailed(f'{label}: there was nothing to score: no validation image has a label of '
                        f'the classes; check the validation data')
    return found


def _dense(probe: Probe, rule: PixelRule, say: Callable[[str], None]
           ) -> tuple[Measure, dict[str, Any], PixelRule]:
    from densessl.labels.pixel_labels import PixelData, find_pixel_labels, label_reports
    if probe.dataset:
        raise UsageError('--dataset names sets of images in classes; --kind dense finds the '
                         'layout of --data itself')
    data = find_pixel_labels(probe.data, list(probe.ignore), probe.map)
    all_of_them = len(data.pairs['train'])
    chosen = choose(all_of_them, probe.fraction, probe.seed)
    data.pairs['train'] = [data.pairs['train'][i] for i in chosen]
    paths = [os.path.abspath(image) for image, _ in data.pairs['train']]
    rule = with_rule(ImageList.of_paths(paths), rule).rule
    if probe.check:
        found = check_data(label_reports(data), rule=rule)
        found.require_usable()
        for line in found.warnings():
            say(line)

    def measure(backbone: Measured) -> dict[str, Any]:
        stages = feature_stages(backbone.module)
        if not -len(stages) <= probe.stage < len(stages):
            raise UsageError(f'--stage {probe.stage}: {backbone.label} has {len(stages)} maps')
        sets = (PixelData(data, split, probe.size, stages[-1].stride, probe.square, rule)
                for split in ('train', 'val'))
        return dense_probe(backbone, *sets, data.names, stage=probe.stage,
                           workers=probe.workers, **_given(probe, 'decay'))

    of_all = {} if probe.fraction == 1 else {'available': all_of_them}
    return measure, {'training images': len(data.pairs['train']), **of_all,
                     'validation images': len(data.pairs['val']),
                     'classes': len(data.names)}, rule


def _classes(probe: Probe, rule: PixelRule) -> tuple[Measure, dict[str, Any], PixelRule]:
    from densessl.probes.class_images import find_class_images
    train, val = find_class_images(probe.data, probe.dataset, rule)
    common = dict(train=train, val=val, size=probe.size, workers=probe.workers)
    measures = {
        'linear': partial(linear_probe, **common),
        'knn': partial(knn_probe, **common, **_given(probe, 'neighbors', 'temperature')),
        'finetune': partial(finetune_probe, **common, settings=Finetuning(
            seed=probe.seed, **_given(probe, 'epochs', 'lr', 'batch')))}
    share = most_frequent(train.labels, val.labels)
    return measures[probe.kind], {
        'training images': len(train), 'validation images': len(val), 'classes': len(train.names),
        '% by always answering the most frequent class': round(share, 1)}, train.rule


def _given(probe: Probe, *names: str) -> dict[str, Any]:
    return {name: getattr(probe, name) for name in names if getattr(probe, name) is not None}
