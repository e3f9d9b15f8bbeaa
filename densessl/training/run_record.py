"""What a pretraining run writes down of itself at its start, for whoever reads its folder."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.device import get_device
from mmengine.dist import get_world_size

from densessl.files.json_files import json_object, write_json
from densessl.machine.facts import machine_facts, versions
from densessl.planning.plan import Plan
from densessl.views.dataset import ViewDataset

RECORD = 'pretraining.json'     # in a work folder


def write_record(folder: Path, provenance: dict[str, Any], plan: Plan, dataset: ViewDataset, *,
                 begun: str) -> None:
    """Write what is run: the facts that its weights will carry, its plan, data and machine.

    Args:
        folder: the run's work folder.
        provenance: of its weights.
        begun: the name of its first folder of logs; older ones are of another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RECORD, {
        'begun': begun, 'provenance': provenance,
        'iterations': plan.steps * plan.accumulate, 'accumulate': plan.accumulate, 'lr': plan.lr,
        'warmup_steps': plan.warmup_steps, 'notes': list(plan.notes),
        'data': str(dataset.images.root), 'masks': dataset.masks.info if dataset.masks else None,
        'device': get_device(), 'processes': get_world_size(), 'machine': machine_facts(),
        'versions': versions()})


def begun_in(folder: Path) -> str | None:
    """When the run in ``folder`` began; None if it does not say, or if there is none."""
    begun = (json_object(folder / RECORD) or {}).get('begun')     # older runs have no record
    return begun if isinstance(begun, str) else None
