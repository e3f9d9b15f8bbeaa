"""The labelled data of a downstream config: what it holds, and whether all of it can be used."""
from __future__ import annotations

import copy

from mmengine import Config
from mmengine.registry import DefaultScope

from densessl.finetune.image_loading import measured
from densessl.finetune.labelled_subset import build_training_sets
from densessl.labels.data_check import check_data
from densessl.labels.data_report import DataReport
from densessl.pixels.pixel_rule import PixelRule
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


def check_labelled(cfg: Config, target: TransferTarget, root: str | None, rule: PixelRule | None
                   ) -> list[str]:
    """Look at all labelled data of a downstream config, which stays as it is, before several runs
    on it; lines about what does not end a run.

    Args:
        root: of the data; the config's own if None.
        rule: by which images are read, measured here if it has to be; None: no file is opened.

    Raises:
        UsageError: the data cannot be used, or a file of it.
    """
    with_data = copy.deepcopy(cfg)
    target.set_data(with_data, root)
    reports, _ = inspect_labelled(with_data, target)
    if rule is None:
        return []
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        rule = measured(rule, build_training_sets(with_data))
    found = check_data(reports, rule=rule)
    found.require_usable()
    return found.warnings()
