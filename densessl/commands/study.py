"""``densessl study``: what a file compares, measured, in tables, curves and pages."""
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from densessl.errors import UsageError

if TYPE_CHECKING:
    from densessl.study.cells import Place
    from densessl.study.graph import Graph
    from densessl.study.plan import Study

ROOT = 'DENSESSL_STUDY_DATA'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument('file', metavar='FILE', help='the study, a YAML file (docs/studies.md)')
    parser.add_argument('--data', nargs='+', action='extend', default=[], metavar='NAME=DIR',
                        help='where a data set of the file is; or one folder that has each in a '
                        f'folder of its name (default: ${ROOT})')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/studies'), metavar='DIR',
                        help='cells of all studies, and a folder of results for each; the same '
                        'command goes on with what is there (default: work_dirs/studies)')
    parser.add_argument('--budget', type=float, metavar='MINUTES', help='do only what is expected '
                        'to end within these, the most telling first (default: everything)')
    parser.add_argument('--jobs', type=int, metavar='N', help='cells at once (default: on a CPU 1, '
                        'else one for each CUDA device)')
    parser.add_argument('--dry-run', action='store_true', help='do nothing: list the cells with '
                        'what they are estimated to cost')
    parser.add_argument('--write-docs', action='store_true', help='do nothing but keep the results '
                        'in FILE’s folder, and write docs/evidence.md and the README’s table from '
                        'all that are kept there')


def run(args: argparse.Namespace) -> int:
    """Do what is not done and write the results; 1 if a cell failed or a signal stopped it."""
    from densessl.study.graph import cells_of
    from densessl.study.study_file import read_study
    study = read_study(args.file)
    place = _place(args, study)
    graph = cells_of(study, place)
    if args.dry_run:
        return _list(args, graph, place)
    if args.write_docs:
        return _write_docs(args, study, graph, place)
    return _do(args, study, graph, place)


def _place(args: argparse.Namespace, study: Study) -> Place:
    from densessl.machine import machine_facts
    from densessl.study.cells import Place
    named, roots = {}, [os.environ[ROOT]] if os.environ.get(ROOT) else []
    for text in args.data:
        name, equals, folder = text.partition('=')
        if not equals:
            roots.insert(0, text)
        elif name not in study.sources or not folder:
            raise UsageError(f'--data {text}: NAME=DIR is needed; {args.file} has the data '
                             f'{", ".join(study.sources)}')
        elif study.sources[name].label_maps_of:
            raise UsageError(f'--data {text}: {name} is made from '
                             f'{study.sources[name].label_maps_of}; say where that is')
        else:
            named[name] = Path(os.path.abspath(os.path.expanduser(folder)))
    for root in roots:
        for name in study.sources:
            path = Path(os.path.abspath(os.path.expanduser(root))) / name
            if name not in named and path.exists():
                named[name] = path
    for name, path in named.items():
        if not path.exists():
            raise UsageError(f'--data {name}={path}: there is no such folder or file')
    for option, value, least, most in (('--jobs', args.jobs, 1, 1024),
                                       ('--budget', args.budget, 0, 10 ** 7)):
        if value is not None and not least <= value <= most:
            raise UsageError(f'{option} {value}: at least {least} and at most {most}')
    return Place(Path(os.path.abspath(args.out)), named, study.sources,
                 machine_facts()['processor'].partition(',')[0], study.threads)


def _list(args: argparse.Namespace, graph: Graph, place: Place) -> int:
    """Print the cells in their order; those in a budget end before it."""
    from densessl.demo.stages import duration
    from densessl.study.graph import Estimates, finish_times
    estimates, jobs = Estimates(graph.order, place), args.jobs or 1
    todo = [cell for cell in graph.order if not cell.is_done(place)]
    minutes = {cell.id: estimates.minutes(cell) for cell in todo}
    ends = finish_times(todo, minutes, jobs)
    for cell in graph.order:
        cost = f'{minutes[cell.id]:8.1f} CPU-min' if cell.id in ends else '        done    '
        late = args.budget is not None and ends.get(cell.id, 0.0) > args.budget
        print(f'{cell.id}  {cost}  {cell.label}' + ('  (not within the budget)' if late else ''))
    print(f'{len(graph.order)} cells, {len(graph.order) - len(todo)} of them done; about '
          f'{sum(minutes.values()):.0f} CPU-minutes to do, '
          f'{duration(60 * max(ends.values(), default=0.0))} with --jobs {jobs}')
    unknown = [name for name, source in place.sources.items()
               if name not in place.paths and not source.label_maps_of
               and name not in {one.weights for one in study.weights}]
    if unknown:
        print(f'not known where it is, so nothing counts as done: {", ".join(unknown)} '
              f'(--data NAME=DIR)')
    return 0


def _do(args: argparse.Namespace, study: Study, graph: Graph, place: Place) -> int:
    from densessl.benchmark.processes import Slot, slots
    from densessl.lock import BeingBuilt, RunLock
    from densessl.study import features, report      # noqa: F401  now: a study runs for hours
    from densessl.study.run import NEEDS, Runner
    for name in needed_data(study):      # before anything is done
        place.path(name)
    cpu = study.device == 'cpu'
    room = [Slot(None, study.threads)] * (args.jobs or 1) if cpu else slots(args.jobs)
    runner = Runner(graph, place, room, budget=args.budget, say=lambda text: print(
        text, flush=True), environment={'CUDA_VISIBLE_DEVICES': ''} if cpu else {})
    print(f'{len(graph.order)} cells, {len(runner.done)} of them done already; {len(room)} at '
          f'once', flush=True)
    try:
        with RunLock(place.folder):
            try:
                runner.run()
            finally:
                _write(study, graph, place)
    except BeingBuilt as error:
        raise UsageError(f'another study is at work in {place.folder}; wait for it, or choose '
                         f'another --out') from error
    except KeyboardInterrupt:
        print(f'densessl study: stopped; the same command goes on from there ({place.folder})',
              file=sys.stderr)
        return 1
    if runner.left_out:
        print(f'{len(runner.left_out)} cells are left for later: they would not end within '
              f'--budget {args.budget:g}')
    for cell in graph.order:
        if not runner.failed.get(cell.id, NEEDS).startswith(NEEDS):
            print(f'failed: {cell.label}: {runner.failed[cell.id]}', file=sys.stderr)
    return 1 if runner.failed else 0


def needed_data(study: Study) -> list[str]:
    """The data sets, and what is needed of them, that have to be there."""
    wanted = [one for weights in study.weights for one in weights.data]
    wanted += [one.data for one in study.evaluations]
    made = {name: source.label_maps_of for name, source in study.sources.items()}
    return list(dict.fromkeys(made[one.partition('/')[0]] or one for one in wanted))


def _write(study: Study, graph: Graph, place: Place) -> None:
    """Write results, table, curves and page, and print the table."""
    from densessl.benchmark.tables import markdown
    from densessl.files import write_json, write_text
    from densessl.study import report, tables
    from densessl.study.curves import write_curves
    from densessl.study.features import write_features
    from densessl.study.results import collect
    results, folder = collect(study, graph, place), place.folder / study.name
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / report.RESULTS, results)
    pictures = write_curves(results, folder)
    features = write_features(study, graph, place, folder / FEATURES)
    if features is not None:
        pictures[report.FEATURES] = features
    write_text(folder / report.TABLE, report.study_markdown(
        results, {title: path.name for title, path in pictures.items()}, level=1))
    report.study_page(results, pictures, folder / report.PAGE)
    for title, columns in tables.groups(results):
        print('\n' + (f'{title}\n\n' if title else '')
              + markdown(tables.score_rows(results, columns)))
    for note in tables.notes(results):
        print(note)
    print(f'\n{folder}: {report.RESULTS}, {report.TABLE}, {report.PAGE}', flush=True)


def _write_docs(args: argparse.Namespace, study: Study, graph: Graph, place: Place) -> int:
    from densessl.study.docs import write_docs
    from densessl.study.results import collect
    results = collect(study, graph, place)
    features = place.folder / study.name / FEATURES
    written = write_docs(Path(args.file).absolute().parent.parent,
                         results if results['cells'] else None,
                         features if features.is_file() else None)
    print(', '.join(map(str, written)))
    return 0


FEATURES = 'features.png'
