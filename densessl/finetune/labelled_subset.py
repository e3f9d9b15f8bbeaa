"""The data sets of a downstream config: put in their place, and drawn from: a fraction of the
labelled training images that is nested, seeded and the same for every initialization."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS

from densessl.bounds import Seed, check_value
from densessl.errors import UsageError
from densessl.files.json_files import write_json
from densessl.labels.data_root import SPLITS, require

_LONG = 1000    # indices


def check_fraction(fraction: float) -> None:
    """Raise UsageError unless ``fraction`` is above 0 and at most 1."""
    if not 0 < fraction <= 1:
        raise UsageError(f'the fraction must be above 0 and at most 1, not {fraction}')


def check_seed(seed: int) -> None:
    """Raise UsageError unless every generator takes ``seed``."""
    check_value('--seed', seed, Seed)


def choose(total: int, fraction: float, seed: int) -> list[int]:
    """Indices of round(fraction · total) images, at least one, in ascending order.

    A smaller fraction of the same seed is a subset of a larger one: both are the beginning of one
    permutation.
    """
    check_fraction(fraction)
    permutation = np.random.default_rng(seed).permutation(total)
    return sorted(permutation[:max(1, round(fraction * total))].tolist())


def build_training_sets(cfg: Any) -> list[Any]:
    """The training data sets of a downstream config, without the wrappers around them."""
    return [DATASETS.build(dict(leaf)) for leaf in leaf_datasets(cfg.train_dataloader.dataset)]


@dataclass(frozen=True)
class Subset:
    """The training images of a run, out of ``total``.

    Attributes:
        images: their paths. longer: how many times an epoch each is met.
    """

    fraction: float
    seed: int
    total: int
    images: list[str]
    longer: float = 1.0

    def __str__(self) -> str:
        times = (f', each {self.longer:.3g} times an epoch, so that epochs and the run keep their '
                 f'lengths' if self.longer > 1 else '')
        return (f'{len(self.images)} of {self.total} training images (fraction {self.fraction:g}, '
                f'seed {self.seed}){times}')

    def write(self, folder: Path) -> None:
        """Write the list to ``subset.json``."""
        write_json(folder / 'subset.json', {'fraction': self.fraction, 'seed': self.seed,
                                            'of': self.total, 'images': self.images})


def take_fraction(cfg: Any, fraction: float, seed: int, built: list[Any] | None = None) -> Subset:
    """Restrict the training data of a downstream config to a fraction of its images.

    A run that counts epochs meets each of the images so many times an epoch that the length of an
    epoch stays. Works through dataset wrappers; concatenated datasets are sampled as one, and those
    of which no image was drawn are left out: a data set without an image cannot be built.

    Args:
        built: what :func:`build_training_sets` gave, where that is there.
    """
    built = built or build_training_sets(cfg)
    *starts, total = accumulate(map(len, built), initial=0)
    if total == 0:
        raise UsageError('the training data set is empty: check --data-root')
    chosen = choose(total, fraction, seed)
    drawn = repeat(chosen, total) if cfg.get('train_cfg', {}).get('max_epochs') else chosen
    if fraction < 1 and len(drawn) > _LONG:
        _leave_unformatted(cfg)
    images, labelled = [], False
    for leaf, dataset, start in zip(leaf_datasets(cfg.train_dataloader.dataset), built, starts,
                                    strict=True):
        positions = range(start, start + len(dataset))
        for index in (one for one in chosen if one in positions):
            info = dataset.get_data_info(index - start)
            images.append(info['img_path'])
            labelled = labelled or _has_label(info)
        if fraction < 1:
            leaf['indices'] = [index - start for index in drawn if index in positions]
    if not labelled:
        raise UsageError(f'the {len(images)} training images of fraction {fraction:g} and seed '
                         f'{seed} have no object; take a larger fraction or another seed')
    _drop_empty(cfg.train_dataloader.dataset)
    return Subset(fraction, seed, total, images, max(1.0, total / len(chosen))
                  if len(drawn) > len(chosen) else 1.0)


def _leave_unformatted(cfg: Any) -> None:
    """Have mmengine write the config out as it is: tidying the code of a long list of indices takes
    seconds, at every checkpoint. Its only switch is this attribute; what is set by name becomes a
    key of the config."""
    vars(cfg)['_format_python_code'] = False


def _has_label(info: Mapping[str, Any]) -> bool:
    """Whether there is something to train on in an image: a label map, or an object that is not
    to be ignored."""
    return 'instances' not in info or bool(info.get('segments_info')) or any(
        not one.get('ignore_flag') for one in info['instances'])


def repeat(indices: list[int], number: int) -> list[int]:
    """``indices`` over and over until there are ``number``, in ascending order. So an epoch stays
    as long as with all images, and with it everything that a config counts in epochs."""
    return sorted(indices[i % len(indices)] for i in range(number))


def _drop_empty(dataset: Any) -> bool:
    """Leave out, of every list of data sets, those with no image; whether any is left."""
    if 'datasets' in dataset:
        dataset['datasets'] = [part for part in dataset['datasets'] if _drop_empty(part)]
        return bool(dataset['datasets'])
    if 'dataset' in dataset:
        return _drop_empty(dataset['dataset'])
    return dataset.get('indices') != []


def leaf_datasets(dataset: Any) -> list[Any]:
    """The configs of the data sets inside wrappers (``dataset=…``, ``datasets=[…]``)."""
    inner = dataset.get('datasets') or ([dataset['dataset']] if 'dataset' in dataset else None)
    if inner is None:
        return [dataset]
    return [leaf for part in inner for leaf in leaf_datasets(part)]


def set_root(cfg: Any, root: str | None) -> list[str]:
    """Point every dataset of a downstream config at ``root`` (None: each at its own).

    Returns:
        A line for each dataset.

    Raises:
        UsageError: folders or files that the config names are not there; the message lists them.
    """
    lines = []
    for split in SPLITS:
        for dataset in leaf_datasets(cfg[f'{split}_dataloader'].dataset):
            dataset.data_root = root or dataset.get('data_root') or ''
            wanted = [part for part in (*dataset.get('data_prefix', {}).values(),
                                        dataset.get('ann_file')) if part]
            require(wanted, Path(dataset.data_root), f'that is where {dataset.type} looks; '
                    f'--data-root names another folder')
            lines.append(f'{split}: {dataset.type} in {dataset.data_root}')
    cfg.test_dataloader = cfg.val_dataloader
    return lines


def reads(cfg: Any, types: Sequence[str], one: bool = False) -> bool:
    """Whether all datasets for training and validation are of ``types``, and, with ``one``, there
    is one for each."""
    leaves = [leaf_datasets(cfg[f'{split}_dataloader'].dataset) for split in SPLITS]
    return all(leaf.get('type') in types for found in leaves for leaf in found) and (
        not one or all(len(found) == 1 for found in leaves))
