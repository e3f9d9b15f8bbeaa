"""Where weights come from that were trained on: the chain of starts in their provenance.

A run that starts from weights keeps a *link* to them, and behind it the links that these weights
had themselves: newest first. A link is data, and nothing is ever built of it.
"""
from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densessl.backbones import spelled
from densessl.errors import escaped

LINKS = 'start'             # the key of the chain in a provenance
TEACHER = 'teacher'         # the key of the link to weights that were learned from, not trained
KEPT = 'start.pth'          # in a work folder: the weights that its run started from
MOST_LINKS = 100
_LONGEST = 1000             # characters of a text in a provenance
# What a link keeps of the provenance of its weights, besides the file, its hashes and the network.
_KEPT = ('method', 'config', 'data', 'images', 'epochs', 'steps', 'imported')


def link_to(file: Path, meta: Mapping[str, Any], weights: str, *, heads: bool) -> dict[str, Any]:
    """The link to weights that a run starts from.

    Args:
        file: which holds them.
        meta: their provenance.
        weights: their ``sha256`` (:func:`densessl.weights.backbone_file.weights_hash`).
        heads: whether heads, targets and queue are taken over, too.
    """
    return {'file': file.name[:_LONGEST], 'file_sha256': file_hash(file), 'sha256': weights,
            'network': spelled(meta['backbone'])[:_LONGEST], 'heads': heads,
            **{key: meta[key] for key in _KEPT if key in meta}}


def hashes_in(facts: Mapping[str, Any]) -> dict[str, str]:
    """The hash of each link to weights among the facts of a provenance, by a name for messages."""
    return {f'sha256 of the {key}': link['sha256'] for key, link in linked_in(facts).items()}


def linked_in(facts: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The links to weights among the facts of a provenance, by their keys."""
    return {key: fact for key, fact in facts.items()
            if isinstance(fact, Mapping) and {'file', 'sha256', 'file_sha256'} <= set(fact)}


def chain(link: Mapping[str, Any], meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The links of weights that start from ``link``, whose own provenance is ``meta``."""
    return [dict(link), *meta.get(LINKS, ())][:MOST_LINKS]


def links_of(meta: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The links in a provenance, newest first; none of weights that were trained from random
    ones, or imported."""
    return list((meta or {}).get(LINKS) or ())


def lineage(meta: Mapping[str, Any]) -> list[str]:
    """A line for each file of weights that was trained on, the newest first, and for a teacher."""
    lines = [f'{"started" if i == 0 else "which started"} from {_words(link)}'
             for i, link in enumerate(links_of(meta))]
    if meta.get(TEACHER):
        lines.append(f'learned from the teacher {_words(meta[TEACHER])}')
    return [escaped(line) for line in lines]


def _words(link: Mapping[str, Any]) -> str:
    return (f'{link["file"]} ({link.get("network", "?")}, {_origin(link)}; '
            f'sha256 {link["file_sha256"][:12]}…)')


def _origin(link: Mapping[str, Any]) -> str:
    imported = link.get('imported')
    if isinstance(imported, Mapping):
        return f'imported from {imported.get("origin", "?")}'
    return (f'{link.get("method", "?")}, {link.get("epochs", "?")} epochs on '
            f'{link.get("data", "?")}')


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
