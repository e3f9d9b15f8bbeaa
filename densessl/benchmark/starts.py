"""The weights that own ones were continued from: put beside them, so that a benchmark says whether
continuing was worth it."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densessl.errors import UsageError
from densessl.weights.backbone_file import load_backbone_file
from densessl.weights.lineage import KEPT, links_of

START = 'start'


@dataclass
class Starts:
    """The starts of a benchmark's backbones.

    Attributes:
        files: name of a start → its exported file, for those that are no backbones themselves.
        of: name of a backbone → name of its start.
        notes: what was left out, a line each.
    """

    files: dict[str, Path] = field(default_factory=dict)
    of: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_starts(backbones: Mapping[str, str], metas: Mapping[str, Mapping[str, Any]],
                given: str | None = None) -> Starts:
    """Find, beside each backbone, the weights that its run started from.

    Args:
        backbones: name → exported file. metas: name → provenance, of these and of others that are
            compared.
        given: an exported file of the start, which is looked for beside the backbones if None.

    Raises:
        UsageError: what is there, or given, is not what the provenance names.
    """
    found = Starts()
    links = {name: link for name in backbones for link in links_of(metas[name])[:1]}
    by_hash = {meta['sha256']: name for name, meta in metas.items()}
    several = len({link['sha256'] for link in links.values()}) > 1
    for name, link in links.items():
        own = by_hash.get(link['sha256'])
        if own is None:
            path = _file_of(name, backbones[name], link, given)
            if path is None:
                found.notes.append(
                    f'{name} started from {link["file"]}, which is left out: no {KEPT} is '
                    f'beside {backbones[name]} (give it with --start FILE).')
                continue
            own = f'{START}-of-{name}' if several else START
            by_hash[link['sha256']] = own
            found.files[own] = path
        found.of[name] = own
    if given is not None and not links:
        raise UsageError(f'--start {given}: none of the backbones says that it started from '
                         f'weights; name others with --backbones')
    return found


def _file_of(name: str, backbone: str, link: Mapping[str, Any], given: str | None) -> Path | None:
    path = Path(given) if given else Path(backbone).resolve().with_name(KEPT)
    if not given and not path.is_file():
        return None
    digest = load_backbone_file(path)[1]['sha256']
    if digest != link['sha256']:
        raise UsageError(
            f'{path} is not what {name} started from: {link["file"]}, whose weights have the '
            f'sha256 {link["sha256"][:12]}…, not {digest[:12]}…; give the right one with --start '
            f'FILE, or leave it out with --no-start')
    return path
