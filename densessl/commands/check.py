"""``densessl check``: open the labelled data that a config will use; say what is wrong with it."""
from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from densessl.commands import add_config_arguments, parse_options, pixel_arguments

if TYPE_CHECKING:
    from densessl.labels.data_check import DataCheck
    from densessl.labels.data_report import DataReport, Kind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument('--data-root', metavar='DIR', help='the labelled data set')
    parser.add_argument('--fraction', type=float, default=1.0,
                        help='of the training images, as for finetune (default: 1)')
    parser.add_argument('--seed', type=int, default=0, help='of the fraction (default: 0)')
    add_config_arguments(parser, 'downstream', 'the full range of the type')


def run(args: argparse.Namespace) -> int:
    """Print what was found; UsageError, and so exit code 2, if something cannot be used."""
    from mmengine.registry import DefaultScope

    from densessl.environment import building
    from densessl.errors import UsageError
    from densessl.finetune.downstream_config import read_downstream_config
    from densessl.finetune.image_loading import measured, rule_for
    from densessl.finetune.labelled_subset import (
        build_training_sets,
        check_fraction,
        check_seed,
        take_fraction,
    )
    from densessl.labels.data_check import check_data
    check_fraction(args.fraction)
    check_seed(args.seed)
    cfg, target = read_downstream_config(args.config, parse_options(args.cfg_options))
    lines = target.set_data(cfg, args.data_root)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), building(
            'train_dataloader.dataset'):
        reports = target.inspect_data(cfg)
        built = build_training_sets(cfg)
        rule = measured(rule_for(None, pixel_arguments(args)), built)
        drawn = (set(take_fraction(cfg, args.fraction, args.seed, built).images)
                 if args.fraction < 1 else None)
    found = check_data(reports, drawn, rule=rule)
    for line in [*lines, *_contents(reports, found)]:
        print(line)
    left = [*map(str, found.doubtful), *_by_file(reports, 'unusable')]
    for line in [*_by_file(reports, 'mended'), *map(str, found.odd), *map(str, found.faults),
                 *left]:
        print(line)
    for report in reports:
        report.require_usable()
    if number := len(found.faults) + len(left):
        raise UsageError(f'{number} {"fault" if number == 1 else "faults"} in the labelled data '
                         f'({found.opened} files were opened)')
    print(f'{found.opened} files were opened: all of them can be used')
    return 0


def _contents(reports: Sequence[DataReport], found: DataCheck) -> Iterator[str]:
    """Lines about what each part holds."""
    from densessl.labels.data_check import pixel_shares
    said = set()
    for report in reports:
        yield from report.lines()
        if report.per_class:
            yield f'{report.split}: ' + ', '.join(
                f'{name} {number}' for name, number in report.per_class.items())
        if report.maps and report.split in found.pixels and report.split not in said:
            said.add(report.split)
            yield f'{report.split}: {pixel_shares(report.maps, found.pixels[report.split])}'


def _by_file(reports: Sequence[DataReport], kind: Kind) -> Iterator[str]:
    """A line for each file of which something is not used, or is not read as it is written. For
    an image that is left out as a whole, its objects are not listed."""
    for report in reports:
        found = sorted(report.of_kind(kind), key=lambda finding: finding.unit == 'objects')
        whole = {path for finding in found if finding.unit != 'objects'
                 for path in finding.files} if kind == 'unusable' else set()
        for finding in found:
            for path, words in finding.by_file():
                if finding.unit != 'objects' or path not in whole:
                    yield (path if os.path.exists(path) else f'{report.source}: {path}') + words
