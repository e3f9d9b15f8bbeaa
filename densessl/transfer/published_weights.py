"""Weights that a library publishes for its networks: downloaded only because the user asks."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from densessl.backbones import target_names
from densessl.errors import UsageError, did_you_mean
from densessl.registry import TRANSFER_TARGETS


@dataclass(frozen=True)
class PublishedWeights:
    """A file of weights that a library publishes.

    Attributes:
        address: where a browser gets it.
        license: as the library says it; empty if it does not.
        fetch: downloads it, unless it is in the library's cache, and returns where it is; raises
            OSError without a network.
    """

    address: str
    fetch: Callable[[], Path]
    license: str = ''


def is_network_name(text: str) -> bool:
    """Whether ``text`` is ``'TARGET.name'`` of an installed target."""
    library, dot, name = text.partition('.')
    return bool(dot and name) and library in target_names()


def fetch_published(text: str) -> tuple[Path, list[str]]:
    """The file of the weights that a library publishes for ``'TARGET.name'``, and lines about it.

    Raises:
        UsageError: it publishes none, or they cannot be downloaded; the message says which file
            to fetch and how to give it.
    """
    library, _, name = text.partition('.')
    target = TRANSFER_TARGETS.get(library)()
    names = target.backbone_names()
    if names and name not in names:
        raise UsageError(f'unknown {library} network {name!r}{did_you_mean(name, names)}')
    published = target.published_weights(name)
    if published is None:
        raise UsageError(f'{library} publishes no weights for {name} that it could fetch by '
                         f'name; give a file of them, with --as {text}')
    try:
        path = published.fetch()
    except OSError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f'the weights of {text} cannot be downloaded ({reason}); fetch '
                         f'{published.address} where there is a network, and give the file with '
                         f'--as {text}') from error
    terms = f', license {published.license}' if published.license else ''
    return path, [f'{text}: {published.address}{terms}']
