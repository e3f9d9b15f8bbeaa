"""The labelled data of a downstream config: what it holds, and whether all of it can be used."""
from __future__ import annotations

import copy
import os
from collections.abc import Sequence

from mmengine import Config
from mmengine.registry import DefaultScope

from densessl.dist import is_first_process
from densessl.finetune.image_loading import measured
from densessl.finetune.labelled_subset import build_training_sets
from densessl.labels.data_check import check_data
from densessl.labels.data_report import DataReport
from densessl.labels.file_facts import open_files
from densessl.pixels.pixel_rule import PixelRule
from densessl.planning.decisive_settings import digest_of
from densessl.transfer.target import TransferTarget


def inspect_labelled(cfg: Config, target: TransferTarget) -> tuple[list[DataReport], list[str]]:
    """What the data sets of a config hold, as ``target.set_data`` left it, and lines about it.

    Raises:
        UsageError: a data set cannot be built, or nothing in it can be used.
    """
    lines = []
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        reports = target.inspect_data(cfg)
    for report in reports:
        report.require_usable()
        lines += report.lines()
    return reports, lines


def data_digest(reports: Sequence[DataReport]) -> str:
    """Twelve digits that change with the images and labels that are used, and are the same wherever
    they lie: names and sizes of the images, contents of the label files (remembered by size and
    time)."""
    labels = {path for report in reports for path in (
        *report.label_files, *(one for _, *maps in report.samples for one in maps))}
    facts = open_files(((path, 'bytes') for path in sorted(labels)), what='reading labels',
                       progress=is_first_process())
    places = {image: os.path.abspath(image) for report in reports for image, *_ in report.samples}
    folders = {os.path.dirname(place) for place in places.values()}
    start = len(os.path.commonpath(folders or {'/'}).rstrip('/')) + 1
    told = {image: [place[start:], _size(place)] for image, place in places.items()}
    return digest_of([[
        report.split, report.images, report.used_images, report.objects,
        list((report.per_class or {}).items()),
        report.maps and (report.maps.names, report.maps.lookup),
        [facts[path].digest for path in report.label_files],
        sorted([*told[image], *(str(facts[one].digest) for one in maps)]
               for image, *maps in report.samples)] for report in reports])


def _size(path: str) -> str:
    try:
        return str(os.stat(path).st_size)
    except OSError:     # on another machine
        return 'None'


def check_labelled(cfg: Config, target: TransferTarget, root: str | None, rule: PixelRule | None
                   ) -> tuple[list[str], str]:
    """Look at all labelled data of a downstream config, which stays as it is, before several runs
    on it; lines about what does not end a run, and :func:`data_digest`.

    Args:
        root: of the data; the config's own if None.
        rule: by which images are read, measured here if it has to be; None: no image is opened.

    Raises:
        UsageError: the data cannot be used, or a file of it.
    """
    with_data = copy.deepcopy(cfg)
    target.set_data(with_data, root)
    reports, _ = inspect_labelled(with_data, target)
    if rule is None:
        return [], data_digest(reports)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        rule = measured(rule, build_training_sets(with_data))
    found = check_data(reports, rule=rule)
    found.require_usable()
    return found.warnings(), data_digest(reports)
