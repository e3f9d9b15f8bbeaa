"""Time to quality: lightly's methods in a plain loop beside ours, at equal CPU time, in one run.

    make bench-quality        or  python benchmarks/time_to_quality.py --cpu-minutes 20 --seeds 3

SimCLR, BYOL, DenseCL and DetCon-S as lightly has them, with its own transforms, heads and losses
(``time_to_quality_peers.py``), and our SimCLR, BYOL, DetCon-S and DetCon-B: the same backbone,
images, side of the views, batch and CPU time, masks and the start of the process included. Then
the dense probe of each on CamVid val. Every run is a cell of a study: kept, resumed where it was
stopped, never done twice.
"""
from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mask_pictures import bench_data

from densessl.benchmark.processes import Slot
from densessl.benchmark.statistics import interval
from densessl.benchmark.tables import BLANK, Rows, markdown
from densessl.files.json_files import read_json_object
from densessl.files.lock import RunLock
from densessl.files.writing import write_text
from densessl.study.cells import Cell, Command, Place, Run
from densessl.study.evaluating import Probe
from densessl.study.graph import Graph, cells_of
from densessl.study.plan import Weights
from densessl.study.pretraining import Pretraining
from densessl.study.recipe import Masks, Recipe, image_source
from densessl.study.run import Runner
from densessl.study.study import find_data
from densessl.study.study_file import study_of

PEERS = Path(__file__).with_name('time_to_quality_peers.py')
DATA = ('imagenet_sample', 'coco256', 'camvid/images/train')
OURS = {'SimCLR': 'small/simclr_r18', 'DetCon-S': 'small/detcon_s_r18', 'BYOL': 'small/byol_r18',
        'DetCon-B': 'small/detcon_r18'}
THEIRS = {  # row → its name in the loop, and the config of ours that it has the numbers of
    'SimCLR': ('simclr', 'SimCLR'), 'DetCon-S': ('detcon_s', 'DetCon-S'),
    'BYOL': ('byol', 'BYOL'), 'DenseCL': ('densecl', 'SimCLR')}
TABLE = 'results.md'


@dataclass(frozen=True)
class Peer(Cell):
    """A backbone, trained by lightly's method."""

    weights: Weights = field(kw_only=True)
    recipe: Recipe = field(kw_only=True)
    method: str = field(kw_only=True)
    digests: tuple[str | None, ...] = field(kw_only=True)
    seed: int = field(kw_only=True)
    kind = 'peer'
    resumes = True

    @property
    def settings(self) -> dict[str, Any]:
        return {**self.recipe.settings, 'peer': self.method, 'digests': list(self.digests),
                'cpu_minutes': self.weights.cpu_minutes, 'seed': self.seed}

    @property
    def similar(self) -> str:
        return f'{self.kind} {self.method}'

    def backbone(self, place: Place) -> Path:
        return self.folder(place) / 'backbone.pth'

    def command(self, place: Place, runs: Sequence[Run]) -> Command | None:
        folder, masks = self.folder(place), self.after[0] if self.after else None
        if len(runs) == 1:
            network = dict(self.recipe.cfg.model.backbone.to_dict())
            kind = network.pop('type')
            words = ', '.join(f'{key}={value!r}' for key, value in network.items())
            return ['export', str(folder / 'run' / 'backbone_state.pth'), '--from',
                    kind.partition('.')[0], '--as', f'{kind}({words})', '--out',
                    str(self.backbone(place)), '--overwrite']
        seconds = 60 * self.weights.cpu_minutes - (
            masks.record(place)['cpu_seconds'] if masks else 0.0)
        return None if runs else [
            str(PEERS), self.method, '--config', self.recipe.weights.config, '--images',
            str(image_source(DATA, place)), '--seconds', str(seconds), '--seed', str(self.seed),
            '--out', str(folder / 'run'),
            *(['--masks', str(masks.folder(place) / 'masks')] if masks else [])]

    def outcome(self, place: Place, runs: Sequence[Run]) -> dict[str, Any]:
        found = read_json_object(self.folder(place) / 'run' / 'peer.json', ('steps', 'batch'),
                                 remedy='delete its folder')
        return {'steps': found['steps'], 'images_seen': found['steps'] * found['batch'],
                'cpu_seconds_of_training': runs[0]['cpu_seconds']}


def graph_of(args: argparse.Namespace) -> tuple[Graph, Place]:
    """All cells, seed by seed, ours and theirs in turns."""
    study = study_of({
        'name': 'time_to_quality', 'seeds': list(range(args.seeds)),
        'data': {'imagenet_sample': None, 'coco256': None, 'camvid': None},
        'pretraining': {'data': list(DATA), 'cpu_minutes': args.cpu_minutes},
        'pretrainings': {f'densessl {name}': {'config': config} for name, config in OURS.items()},
        'evaluations': {'CamVid val': {'probe': 'dense', 'data': 'camvid',
                                       'arguments': {'ignore': [11]}}}}, 'time_to_quality')
    place = Place(args.out.absolute(), find_data(study, [str(args.data)]), study.sources,
                  'this machine', 1)
    graph = cells_of(study, place)
    trained = {cell.label.split(',')[0].removeprefix('densessl '): cell for cell in graph.order
               if isinstance(cell, Pretraining)}
    evaluation = study.evaluations[0]
    for seed in study.seeds if importlib.util.find_spec('lightly') else ():
        for name, (method, like) in THEIRS.items():
            twin = trained[like]
            weights = Weights(f'lightly {name}', cpu_minutes=args.cpu_minutes)
            peer = Peer(f'lightly {name}, seed {seed}: pretraining',
                        tuple(one for one in twin.after if isinstance(one, Masks)),
                        minutes=args.cpu_minutes, weights=weights, recipe=twin.recipe,
                        method=method, digests=twin.digests, seed=seed)
            probe = Probe(f'lightly {name}, seed {seed}: CamVid val', (peer,), weights=weights,
                          evaluation=evaluation, seed=seed, pretraining=peer,
                          digest=place.digest('camvid'))
            graph.scorings.append(probe)
            graph.add(probe)
    graph.order.sort(key=lambda cell: getattr(cell, 'seed', 0))     # stable: a seed, then the next
    return graph, place


def table(graph: Graph, place: Place) -> Rows:
    """Header and rows: what each method reached, and how many images a second it took."""
    rows = [['method', 'mIoU', 'images a CPU-second', 'updates', 'CPU-minutes']]
    for name in dict.fromkeys(cell.weights.name for cell in graph.scorings):
        done = [(cell.record(place), cell.pretraining.record(place)) for cell in graph.scorings
                if cell.weights.name == name and cell.is_done(place)]
        if not done:
            rows.append([name, *[BLANK] * 4])
            continue
        mean, half = interval([one['scores']['mIoU'] for one, _ in done])
        made: list[Mapping[str, Any]] = [one for _, one in done]
        seconds = sum(one['cpu_seconds_of_training'] for one in made)
        images = sum(one['images_seen'] for one in made)
        rows.append([name, f'{mean:.1f}' + (f' ± {half:.1f}' if half is not None else ''),
                     f'{images / seconds:.1f}', f'{made[0]["steps"]}',
                     f'{seconds / 60 / len(made):.1f}'])
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, default=bench_data(), help='folder with '
                        'imagenet_sample, coco256 and camvid (default: $DENSESSL_BENCH_DATA, else '
                        '../shared/data)')
    parser.add_argument('--cpu-minutes', type=float, default=20.0)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--budget', type=float, help='minutes, as of densessl study')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/time_to_quality'))
    args = parser.parse_args()
    if not importlib.util.find_spec('lightly'):
        print('lightly cannot be imported here: ours alone (make bench-quality installs it)')
    graph, place = graph_of(args)
    runner = Runner(graph, place, [Slot(None, 1)] * args.jobs, budget=args.budget,
                    environment={'CUDA_VISIBLE_DEVICES': ''},
                    say=lambda text: print(text, flush=True))
    with RunLock(place.folder):
        try:
            runner.run()
        finally:
            text = markdown(table(graph, place))
            write_text(place.folder / TABLE, text + '\n')
            print(f'\n{text}\n\nmIoU of a linear probe of frozen features on CamVid val: mean ± '
                  f'half of the 95 % interval over seeds. {place.folder / TABLE}')
    return 1 if runner.failed else 0


if __name__ == '__main__':
    sys.exit(main())
