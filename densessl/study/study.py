"""A study from its file to its results: what ``densessl study`` does."""
from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from densessl.benchmark.processes import MOST_JOBS, Slot, slots
from densessl.benchmark.tables import markdown
from densessl.errors import UsageError
from densessl.files.json_files import write_json
from densessl.files.lock import RunLock
from densessl.files.writing import write_text
from densessl.machine.cores import cores
from densessl.machine.facts import machine_facts
from densessl.progress import duration
from densessl.study import report, tables
from densessl.study.cells import Place
from densessl.study.curves import write_curves
from densessl.study.docs import write_docs
from densessl.study.features import write_features
from densessl.study.graph import Estimates, cells_of, finish_times, not_given, row_name
from densessl.study.plan import Study
from densessl.study.results import collect
from densessl.study.run import NEEDS, Runner

ROOT = 'DENSESSL_STUDY_DATA'    # the variable with the folder of all data sets
USUAL = ('data', '../shared/data')      # where they are looked for if nobody says it
FEATURES = 'features.png'
LONGEST = 10 ** 7       # minutes
Say = Callable[[str], None]


class AtWork:
    """A study and where it is done.

    Args:
        study: what :func:`densessl.study.study_file.read_study` gave.
        data: ``NAME=DIR``, or folders that have data sets in folders of their names.
        out: the folder of cells and results. jobs: cells at once; None: the default.
        budget: minutes. say: told what is going on.

    Raises:
        UsageError: data that are not there or that the study does not name, or a config of the
            study is wrong.
    """

    def __init__(self, study: Study, data: Sequence[str], out: Path, *, jobs: int | None = None,
                 budget: float | None = None, say: Say = print) -> None:
        for option, value, least, most in (('--jobs', jobs, 1, MOST_JOBS),
                                           ('--budget', budget, 0, LONGEST)):
            if value is not None and not least <= value <= most:
                raise UsageError(f'{option} {value}: at least {least} and at most {most}')
        self.study, self.jobs, self.budget, self.say = study, jobs, budget, say
        self.place = Place(Path(os.path.abspath(out)), find_data(study, data), study.sources,
                           machine_facts()['processor'].partition(',')[0], study.threads)
        self.graph = cells_of(study, self.place)
        self.folder = self.place.folder / study.name

    @property
    def at_once(self) -> int:
        """How many cells are done at once, where there is no device for each."""
        if self.jobs is None and self.study.device == 'cpu':
            return max(1, cores() // self.study.threads)
        return self.jobs or 1

    def list_cells(self) -> None:
        """Say which cells there are, in their order, and what they are estimated to cost."""
        estimates, jobs = Estimates(self.graph.order, self.place), self.at_once
        todo = self.graph.to_do(self.place)
        minutes = {cell.id: estimates.minutes(cell) for cell in todo}
        ends = finish_times(todo, minutes, jobs)
        unit = 'CPU-min' if self.study.device == 'cpu' else 'min'
        for cell in self.graph.order:
            cost = f'{minutes[cell.id]:9.1f} {unit}' if cell.id in ends else '       done'
            late = self.budget is not None and ends.get(cell.id, 0.0) > self.budget
            self.say(f'{cell.id}  {cost:<17}  {cell.label}'
                     + ('  (not within the budget)' if late else ''))
        for weights in self.study.weights:
            for name in not_given(weights, self.place):
                self.say(f'{row_name(weights)}: left out, because {name} is not given '
                         f'(--data {name}=FILE)')
        self.say(f'{len(self.graph.order)} cells, {len(self.graph.order) - len(todo)} of them '
                 f'done; about {sum(minutes.values()):.0f} {unit} to do, '
                 f'{duration(60 * max(ends.values(), default=0.0))} with --jobs {jobs}')
        unknown = [name for name in sources_of(self.study) if name not in self.place.paths]
        if unknown:
            self.say(f'not known where they are, so nothing that needs them counts as done: '
                     f'{", ".join(unknown)} (--data NAME=DIR)')

    def do(self) -> bool:
        """Do what is not done and write the results; whether no cell failed.

        Raises:
            UsageError: data are missing, or another study is at work in the folder.
            KeyboardInterrupt: a signal ended it; what was done is in the results.
        """
        for name in needed_data(self.study):      # before anything is done
            self.place.path(name)
        cpu = self.study.device == 'cpu'
        room = [Slot(None, self.study.threads)] * self.at_once if cpu else slots(self.jobs)
        runner = Runner(self.graph, self.place, room, budget=self.budget, say=self.say,
                        environment={'CUDA_VISIBLE_DEVICES': ''} if cpu else {})
        for name in filter(self.place.paths.get, sources_of(self.study)):
            self.say(f'data {name}: {self.place.paths[name]}')
        self.say(f'{len(self.graph.order)} cells, {len(runner.done)} of them done already; '
                 f'{len(room)} at once')
        with RunLock(self.place.folder, 'study', '--out'):
            try:
                runner.run()
            finally:
                self.write()
        if runner.left_out:
            self.say(f'{len(runner.left_out)} cells are left for later: they would not end within '
                     f'--budget {self.budget:g}')
        for cell in self.graph.order:
            if not runner.failed.get(cell.id, NEEDS).startswith(NEEDS):
                self.say(f'failed: {cell.label}: {runner.failed[cell.id]}')
        return not runner.failed

    def write(self) -> None:
        """Write results, table, curves and page, and say the table."""
        results = collect(self.study, self.graph, self.place)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / report.RESULTS, results)
        pictures = write_curves(results, self.folder)
        features = write_features(self.study, self.graph, self.place, self.folder / FEATURES)
        if features is not None:
            pictures[report.FEATURES] = features
        write_text(self.folder / report.TABLE, report.study_markdown(
            results, {title: path.name for title, path in pictures.items()}, level=1))
        report.study_page(results, pictures, self.folder / report.PAGE)
        for title, columns in tables.groups(results):
            self.say('\n' + (f'{title}\n\n' if title else '')
                     + markdown(tables.score_rows(results, columns)))
        for note in tables.notes(results):
            self.say(note)
        self.say(f'\n{self.folder}: {report.RESULTS}, {report.TABLE}, {report.PAGE}')

    def write_docs(self, file: Path) -> list[Path]:
        """Keep the results beside the study's ``file``, and write the documentation of all that
        are kept there; returns what was written."""
        results = collect(self.study, self.graph, self.place)
        features = self.folder / FEATURES
        return write_docs(file.absolute().parent.parent, results if results['cells'] else None,
                          features if features.is_file() else None)


def find_data(study: Study, data: Sequence[str]) -> dict[str, Path]:
    """Where the data sets of a study are, as far as somebody said it.

    Raises:
        UsageError: a name that the study does not have, or a path that is not there.
    """
    named: dict[str, Path] = {}
    roots = [text for text in data if '=' not in text]
    roots += [os.environ[ROOT]] if os.environ.get(ROOT) else []
    roots = roots or [root for root in USUAL if _absolute(root).is_dir()]
    for text in (one for one in data if '=' in one):
        name, _, folder = text.partition('=')
        if name not in study.sources or not folder:
            raise UsageError(f'--data {text}: NAME=DIR is needed; the study has the data '
                             f'{", ".join(study.sources)}')
        if study.sources[name].label_maps_of:
            raise UsageError(f'--data {text}: {name} is made from '
                             f'{study.sources[name].label_maps_of}; say where that is')
        named[name] = _absolute(folder)
    for root in roots:
        if not _absolute(root).is_dir():
            raise UsageError(f'--data {root}: there is no such folder; give NAME=DIR, or a folder '
                             f'that has each data set in a folder of its name')
        for name in study.sources:
            if (_absolute(root) / name).exists():
                named.setdefault(name, _absolute(root) / name)
    weights = {name for one in study.weights for name in (one.weights, one.init)}
    for name, path in named.items():
        if not path.exists():
            raise UsageError(f'--data {name}={path}: there is no such folder or file')
        if name in weights and not path.is_file():
            raise UsageError(f'{name} is the folder {path}, and the study takes weights from it; '
                             f'give a file with --data {name}=backbone.pth')
    return named


def sources_of(study: Study) -> list[str]:
    """The data sets that a study cannot do without: not those it makes, nor files of weights."""
    files = {name for one in study.weights for name in (one.weights, *one.files)}
    return [name for name, source in study.sources.items()
            if not source.label_maps_of and name not in files]


def needed_data(study: Study) -> list[str]:
    """The data sets, and what is needed of them, that have to be there."""
    wanted = [one for weights in study.weights for one in weights.data]
    wanted += [one.data for one in study.evaluations]
    wanted += [study.masks_on] if study.masks_on else []
    made: Mapping[str, str | None] = {name: source.label_maps_of
                                      for name, source in study.sources.items()}
    return list(dict.fromkeys(made[one.partition('/')[0]] or one for one in wanted))


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))
