"""The whole way on a built-in sample: draw, mask, pretrain, export, probe, fine-tune, report."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from densessl.demo.demo import PROBE, Demo, read_demo_config
from densessl.demo.finetuning import finetune_all
from densessl.demo.stages import Stages
from densessl.errors import Interrupted, UsageError

SMALL = 100     # images for which starting worker processes takes longer than the work


def run_demo(out: str | Path | None = None, *, quick: bool = False, seed: int = 0,
             fresh: bool = False) -> tuple[Demo, dict[str, Any]]:
    """Run the demo; return what it was and, by the name of the stage, what was measured.

    A run that was stopped is continued by the same call; what is done is not done again.

    Args:
        out: its folder; ``work_dirs/demo`` (or ``work_dirs/demo_quick``) if None.
        quick: the short way.
        fresh: delete what an earlier run left in the folder.

    Raises:
        UsageError: the folder is not the demo's own, or a stage says what is wrong.
        StageFailed: a stage failed while running.
        KeyboardInterrupt: a signal stopped it.
    """
    folder = Path(out or ('work_dirs/demo_quick' if quick else 'work_dirs/demo'))
    demo = Demo(read_demo_config(quick), folder, seed, quick)
    stages = Stages(folder, total=6 + len(demo.cfg.finetuning), fresh=fresh)
    prepare_backbone(demo, stages)
    measured = {PROBE: probe(demo, stages), **finetune_all(demo, stages)}
    stages.run('report', 'write the report', lambda _: write_report(demo, stages, measured),
               owns=['report.html'], again=True)
    return demo, measured


def prepare_backbone(demo: Demo, stages: Stages) -> None:
    """The stages from the sample to ``backbone.pth``."""
    sample, pretraining = demo.cfg.sample, demo.cfg.pretraining
    stages.run('sample', f'draw {sample.unlabelled} unlabelled and {sample.train} + {sample.val} '
               f'labelled scenes', lambda _: draw_sample(demo), owns=['sample'],
               settings={**sample.to_dict(), 'seed': demo.seed}, needs=['sample/classes.json'])
    stages.run('masks', f'divide the unlabelled scenes into regions ({demo.mask_words})',
               lambda _: make_region_masks(demo), settings=demo.method.masks.to_dict(),
               after=['sample'], owns=['masks'], needs=['masks/masks.json'])
    stages.run('pretraining', f'pretrain {demo.method.model.backbone.type} by {pretraining.name}, '
               f'{pretraining.epochs} epochs without labels',
               lambda begun: pretrain(demo, resume=begun), after=['sample', 'masks'],
               settings=[demo.method.to_dict(), pretraining.epochs], owns=['pretraining'],
               needs=['pretraining/last_checkpoint'])
    stages.run('export', 'take the backbone out of the checkpoint', lambda _: export(demo),
               after=['pretraining'], owns=['backbone.pth'], needs=['backbone.pth'])


def draw_sample(demo: Demo) -> dict[str, Any]:
    """Draw the scenes."""
    from densessl.demo.sample import write_scenes
    from densessl.machine.cores import cores
    sample = demo.cfg.sample
    try:
        write_scenes(demo.sample, unlabelled=sample.unlabelled, train=sample.train, val=sample.val,
                     size=tuple(sample.size), seed=demo.seed,
                     workers=1 if sample.unlabelled < SMALL else cores())
    except ValueError as error:
        raise UsageError(str(error)) from error
    return {}


def make_region_masks(demo: Demo) -> dict[str, Any]:
    """Make the masks of the unlabelled scenes."""
    from densessl.images.find import find_images
    from densessl.masks.build import make_masks
    from densessl.registry import MASK_GENERATORS
    images = find_images(demo.sample / 'unlabelled')
    generator = MASK_GENERATORS.build(demo.method.masks.to_dict())
    summary = make_masks(images, demo.masks, generator, workers=1 if len(images) < SMALL else None)
    return {'masks': summary.made + summary.kept, 'skipped': len(summary.skipped)}


def pretrain(demo: Demo, *, resume: bool) -> dict[str, Any]:
    """Pretrain; goes on where an attempt with the same settings was stopped."""
    from densessl.training.train import train
    options = {key: value for key, value in demo.options.items()
               if not key.startswith('masks.')}      # the masks are made
    try:
        checkpoint = train(demo.cfg.pretraining.config, data=str(demo.sample / 'unlabelled'),
                           masks=str(demo.masks), work_dir=str(demo.pretraining), resume=resume,
                           epochs=demo.cfg.pretraining.epochs, options=options)
    except Interrupted as stop:     # it has saved a checkpoint; the other stages just end
        raise KeyboardInterrupt from stop
    return {'checkpoint': checkpoint.name}


def export(demo: Demo) -> dict[str, Any]:
    """Write the backbone; return its provenance."""
    from densessl.engine.checkpoint_file import newest_whole
    from densessl.export.export import export_backbone
    checkpoint = newest_whole(demo.pretraining, print)
    if checkpoint is None:
        raise UsageError(f'{demo.pretraining} holds no checkpoint; run again with --fresh')
    return {'provenance': export_backbone(checkpoint, demo.backbone, overwrite=True).meta}


def probe(demo: Demo, stages: Stages) -> dict[str, Any]:
    """Probe the frozen features of both weights; return the scores."""
    from densessl.demo.frozen_probe import probe_scenes
    settings = demo.cfg.probe
    return stages.run(
        PROBE, f'probe the frozen features of both weights, {settings.repeats} times',
        lambda _: probe_scenes(demo), settings=[settings.to_dict(), demo.seed],
        after=['sample', 'export'])


def write_report(demo: Demo, stages: Stages, measured: dict[str, Any]) -> dict[str, Any]:
    """Write ``report.html``."""
    from densessl.demo.report import write_demo_report
    size = write_demo_report(demo, measured, stages.seconds())
    print(f'      {size / 1e6:.1f} MB with everything in it', flush=True)
    return {}
