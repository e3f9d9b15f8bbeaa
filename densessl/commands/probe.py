"""``densessl probe``: how good are a backbone's features, frozen or fine-tuned?"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from densessl.bounds import Range, Seed, check_value, whole
from densessl.commands import add_pixel_arguments, pixel_arguments
from densessl.probes.kinds import KINDS

Positive = Annotated[float, Range(above=0, most=10 ** 6)]
ALLOWED = {'size': whole(32, 2 ** 13), 'epochs': whole(1, 10 ** 6), 'batch': whole(2, 2 ** 20),
           'lr': Positive, 'temperature': Positive, 'decay': Annotated[float, Range(0, 10 ** 6)],
           'workers': whole(0, 2 ** 10), 'seed': Seed, 'neighbors': whole(1, 2 ** 31 - 1),
           'stage': whole(-100, 100), 'ignore': Sequence[whole(0, 255)]}
OF_KIND = {'decay': 'dense', 'epochs': 'finetune', 'lr': 'finetune', 'batch': 'finetune',
           'neighbors': 'knn', 'temperature': 'knn', **dict.fromkeys(
               ('fraction', 'square', 'stage', 'ignore', 'map', 'check'), 'dense')}
UNSET = {'fraction': 1.0, 'square': False, 'stage': -1, 'ignore': [255], 'map': [], 'check': True}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument('backbones', nargs='+', metavar='BACKBONE',
                        help='exported backbones, or random')
    parser.add_argument('--data', required=True, metavar='DIR', help='dense: a folder of label '
                        'maps, PASCAL VOC or Cityscapes; else {train,val}/CLASS/… or CLASS/…')
    parser.add_argument('--kind', choices=list(KINDS), default='dense',
                        help='; '.join(f'{kind}: {what}' for kind, what in KINDS.items())
                        + ' (default: dense)')
    parser.add_argument('--dataset', metavar='TARGET.NAME', help='--data holds this public set of '
                        'images in classes in its own format; nothing is downloaded')
    parser.add_argument('--backbone-type', metavar='TARGET.NAME', help='the architecture of random '
                        "weights, with arguments as 'TARGET.NAME(depth=50)' (default: that of the "
                        'first file)')
    parser.add_argument('--fraction', type=float, default=1.0, help='dense: of the training '
                        'images, above 0 to 1; drawn by --seed, a smaller fraction is a subset of '
                        'a larger one (default: 1)')
    parser.add_argument('--out', type=Path, metavar='FILE', help='results as JSON (default: '
                        'work_dirs/probe-<kind>-<data>.json)')
    add_pixel_arguments(parser, "the backbones', or the full range of the type")
    parser.add_argument('--size', type=int, default=224, help='short side of the images, or side '
                        'of the crops, in pixels (default: 224)')
    parser.add_argument('--square', action='store_true', help='dense: resize images to squares, '
                        'for backbones that take one size only')
    parser.add_argument('--stage', type=int, default=-1,
                        help='dense: which map, 0 the finest (default: -1, the last)')
    parser.add_argument('--ignore', nargs='+', type=int, default=[255], metavar='ID',
                        help='dense: ids of pixels without label, in a folder (default: 255)')
    parser.add_argument('--map', nargs='+', type=_ids, default=[], metavar='ID=ID', help='dense: '
                        'what an id in the files of a folder stands for; 255=1 for masks in black '
                        'and white')
    parser.add_argument('--no-check', dest='check', action='store_false', help='dense: do not open '
                        'every file first')
    parser.add_argument('--neighbors', type=int, help='knn: how many (default: 200)')
    parser.add_argument('--temperature', type=float, help='knn: τ (default: 0.07)')
    parser.add_argument('--decay', type=float, help='dense: λ of the weights (default: 0.001)')
    parser.add_argument('--epochs', type=int, help='finetune: of training (default: 30)')
    parser.add_argument('--lr', type=float, help='finetune: learning rate (default: 0.01)')
    parser.add_argument('--batch', type=int, help='finetune: images a step (default: 64)')
    parser.add_argument('--seed', type=int, default=0, help='of random weights, of the fraction '
                        'and of fine-tuning (default: 0)')
    parser.add_argument('--workers', type=int, default=2, help='loader processes (default: 2)')


def _ids(pair: str) -> tuple[int, int]:
    found, equals, meant = pair.partition('=')
    if not (equals and found.isdecimal() and meant.isdecimal() and int(found) < 256
            and int(meant) < 256):
        raise argparse.ArgumentTypeError(f'{pair}: ID=ID is needed, both from 0 to 255, such as '
                                         f'255=1')
    return int(found), int(meant)


def run(args: argparse.Namespace) -> int:
    """Measure; print a line for each backbone, and a table of several."""
    from dataclasses import fields

    from densessl.labels.label_folder import id_map
    from densessl.probes.differences import words
    from densessl.probes.probe import Probe, run_probe
    _check(args)
    given = {**vars(args), 'map': id_map(args.map, '--map'), 'value_range': None,
             **pixel_arguments(args)}
    probe = Probe(**{field.name: given[field.name] for field in fields(Probe)})
    out = args.out or Path('work_dirs') / f'probe-{args.kind}-{Path(args.data).name}.json'
    results = run_probe(probe, args.backbones, architecture=args.backbone_type, out=out,
                        say=lambda text: print(text, flush=True))
    if len(args.backbones) > 1:
        _print_table(results)
        for line in results['differences']:
            print(words(line))
        print('intervals: over the validation images, the same for both; not over trainings')
    print(f'{out}')
    return 0


def _check(args: argparse.Namespace) -> None:
    from densessl.errors import UsageError
    from densessl.finetune.labelled_subset import check_fraction
    for name, kind in ALLOWED.items():
        if (value := getattr(args, name)) is not None:
            check_value(f'--{name}', value, kind)
    check_fraction(args.fraction)
    for name, kind in OF_KIND.items():
        if getattr(args, name) != UNSET.get(name) and kind != args.kind:
            raise UsageError(f'--{name.replace("check", "no-check")} does nothing with --kind '
                             f'{args.kind}: it is of --kind {kind}')


def _print_table(results: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    table = Table(box=None, header_style='bold', pad_edge=False)
    table.add_column('backbone')
    lines = results['results']
    for name in lines[0]['scores']:
        table.add_column(name, justify='right')
    for line in lines:
        table.add_row(line['backbone'], *(f'{value:.2f}' for value in line['scores'].values()))
    print()
    Console(highlight=False).print(table)
