"""``densessl train --dry-run``: what a run over several processes would be, without starting it."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from densessl.engine.launch import Launch, read_launch
from densessl.planning.configured import configure
from densessl.planning.plan import Plan, make_plan, refuse_small_batches
from densessl.planning.start import new_start
from densessl.registry import METHODS


def dry_run(config: str, *, options: Mapping[str, Any] | None = None, epochs: int | None = None,
            launcher: str = 'none', layout: str | None = None,
            allow_smaller_negatives: bool = False, init: Mapping[str, Any] | None = None) -> None:
    """Print ranks, addresses, batches and negatives, by the first process alone. Images are not
    looked for, no process meets another, nothing is written.

    Args:
        config, options, epochs, launcher, allow_smaller_negatives, init: as of
            :func:`densessl.training.train.train`.
        layout: 'NODESxPROCESSES', where no launcher has started this process.

    Raises:
        UsageError: a wrong config, a batch that the processes cannot share, or an environment that
            does not say how many there are.
    """
    launch = read_launch(launcher, layout)
    configured = configure(config, options, epochs, init, new_start)
    cfg = configured.cfg
    plan = make_plan(cfg, configured.options, epochs=configured.epochs, images=cfg.global_batch,
                     processes=launch.processes)      # the number of images decides the steps alone
    refuse_small_batches(cfg, configured.method, plan, launch.processes, allow_smaller_negatives)
    if launch.rank:
        return
    for title, text in (*_of_launch(launch), *_of_batch(cfg, plan, launch.processes)):
        print(f'{title:<18}{text}')
    for line in configured.about_start(plan.steps):
        if line.startswith('start'):     # how many steps there are, the images say
            print(line)
    print('nothing was started')


def _of_launch(launch: Launch) -> list[tuple[str, str]]:
    lines = [('launcher', f'{launch.launcher}, {_several(launch.processes, "process")} on '
                          f'{_several(len(launch.nodes), "node")}')]
    if launch.processes > 1:
        lines.append(('rank 0 is met at', f'{launch.address}:{launch.port}'))
    first = 0
    for node, count in zip(launch.nodes, launch.counts, strict=True):
        last = first + count - 1
        ranks = f'rank {first}' if count == 1 else f'ranks {first}-{last}'
        lines.append((ranks, node))
        first += count
    return lines


def _of_batch(cfg: Any, plan: Plan, processes: int) -> list[tuple[str, str]]:
    together = plan.global_batch // plan.accumulate
    iterations = f' × {plan.accumulate} iterations' if plan.accumulate > 1 else ''
    lines = [('batch', f'{plan.batch_size} a process × {_several(processes, "process")}'
                       f'{iterations} = {plan.global_batch} an update'),
             ('learning rate', f'{plan.lr:g}')]
    negatives = METHODS.build(cfg.model.to_dict()).negatives(together)
    if negatives is not None:
        lines.append(('negatives', f'{negatives} an anchor'))
    if cfg.get('sync_bn'):
        lines.append(('batch norm', f'over {plan.batch_size * processes} images'))
    lines += [('not the recipe', note) for note in plan.notes]
    return lines


def _several(number: int, noun: str) -> str:
    plural = {'process': 'processes', 'node': 'nodes'}[noun]
    return f'{number} {noun if number == 1 else plural}'
