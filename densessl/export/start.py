"""Weights that a pretraining run, or a teacher, starts from: found, read and placed in a network.

They may be an exported backbone, a checkpoint of another run, anybody's file that
:mod:`densessl.export.foreign` or :mod:`densessl.export.named_network` reads, or what a
library publishes for one of its networks.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from densessl.backbones import spelled, target_names
from densessl.errors import UsageError, did_you_mean
from densessl.export.export import PREFIX, read_backbone
from densessl.export.foreign import read_foreign
from densessl.export.foreign_file import AUTO, Foreign
from densessl.export.named_network import parse_network, read_named
from densessl.registry import TRANSFER_TARGETS
from densessl.transfer.handoff import FeatureCheck, KeyTable, compare_features, compare_keys
from densessl.transfer.translate import translate
from densessl.weights.backbone_file import is_own, load_foreign, weights_hash
from densessl.weights.keymap import State
from densessl.weights.lineage import chain, link_to
from densessl.weights.provenance import describe


@dataclass
class Start:
    """Weights to start from.

    Attributes:
        file: where they were read.
        state: of the backbone, in the keys of the library it was built from.
        meta: their provenance.
        links: the chain that a run has which starts from them; the first is to these.
        heads: the other weights of the run that left them (heads, targets, queue), if they are
            to be taken over; else None.
        lines: what was found, dropped and assumed when the file was read.
    """

    file: Path
    state: State
    meta: dict[str, Any]
    links: list[dict[str, Any]]
    heads: State | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """SHA-256 of the backbone's weights."""
        return self.links[0]['sha256']

    def __str__(self) -> str:
        return f'{self.file}: {describe(self.meta)}'


def read_start(weights: str, network: str | None = None, layout: str | None = None,
               heads: bool = False, *, option: str = '--as ') -> Start:
    """Find and read weights to start from.

    Args:
        weights: a file, or ``'TARGET.name'`` for what that library publishes.
        network: ``'TARGET.name'`` or a call of it, the network that somebody else's file is of.
        layout: of somebody else's file, as ``export --from`` takes it; told by the file if None.
        heads: also take heads, targets and queue, from a checkpoint of a run.
        option: how messages ask for ``network``, up to its value.

    Raises:
        UsageError: no such file, no weights in it, or weights of no known network.
    """
    path, lines = Path(weights), []
    if not path.is_file() and _is_network_name(weights):
        if network or layout:
            raise UsageError(f'{weights} names a network, whose published weights are taken; '
                             f'{_bare(option) if network else "--from"} is for files')
        path, lines = _fetch(weights, option)
        network = weights
    if not path.is_file():
        raise UsageError(f'no weights to start from at {weights}: '
                         + ('it is a folder; name a file in it' if path.is_dir() else
                            'it is a pipe, socket or device' if path.exists() else
                            'no such file; give one, or TARGET.name for the weights that a '
                            'library publishes for its network'))
    if is_own(load_foreign(path)[0]):
        if network or layout:
            raise UsageError(f'{path} was written by densessl and says what it is; leave out '
                             f'{_bare(option) if network else "--from"}')
        state, meta = read_backbone(path)
    else:
        state, meta, more = _read_foreign(path, network, layout, option)
        lines += more
    rest = _heads(path, weights) if heads else None
    link = link_to(path, meta, weights_hash(state), heads=heads)
    return Start(path, state, meta, chain(link, meta), rest, lines)


def _bare(option: str) -> str:
    return option.rstrip(' =')


def _is_network_name(text: str) -> bool:
    """Whether ``text`` is ``'TARGET.name'`` of an installed target."""
    library, dot, name = text.partition('.')
    return bool(dot and name) and library in target_names()


def _fetch(text: str, option: str) -> tuple[Path, list[str]]:
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
                         f'name; give a file of them, with {option}{text}')
    try:
        path = published.fetch()
    except OSError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f'the weights of {text} cannot be downloaded ({reason}); fetch '
                         f'{published.address} where there is a network, and give the file with '
                         f'{option}{text}') from error
    terms = f', license {published.license}' if published.license else ''
    return path, [f'{text}: {published.address}{terms}']


def _read_foreign(path: Path, network: str | None, layout: str | None, option: str
                  ) -> tuple[State, dict[str, Any], list[str]]:
    foreign = Foreign(layout or AUTO, network=(
        parse_network(network, _bare(option)) if network else None))
    if foreign.network:
        return read_named(path, foreign)[:3]
    try:
        return read_foreign(path, foreign)
    except UsageError as error:
        raise UsageError(f'{error}. If the network is none of these, name it: {option}TARGET.name'
                         ) from error


def _heads(path: Path, weights: str) -> State:
    """All weights of a run but its backbone's."""
    content = load_foreign(path)[0]
    of_run = is_own(content) and 'sha256' not in content['meta']    # not an exported backbone
    found = {key: value for key, value in content['state_dict'].items()
             if not key.startswith(PREFIX)} if of_run else {}
    if not found:
        raise UsageError(f'init_heads: {weights} holds no heads, only a backbone; heads, targets '
                         f'and queue are in a checkpoint of densessl train (iter_N.pth)')
    return found


def place(start: Start, network: Mapping[str, Any], backbone: nn.Module
          ) -> tuple[KeyTable, FeatureCheck]:
    """Load the weights of ``start`` into ``backbone`` and check that all of them arrived and that
    it computes what they computed.

    Args:
        network: the configuration that ``backbone`` was built from.

    Returns:
        The two checks of the hand-off.

    Raises:
        UsageError: it is another network, or one that computes infinities or NaN.
    """
    source = start.meta['backbone']
    target = TRANSFER_TARGETS.get(network['type'].partition('.')[0])()
    with _as_another_network(start, network):
        state = translate(target, start.state, source['type'])
        added = target.added_modules(backbone, state)
        fits = compare_keys(state, {'': backbone}, added, by_value=False)
        if not fits.complete:
            raise UsageError(fits.summary())
        backbone.load_state_dict(state, strict=False)
        keys = compare_keys(state, {'': backbone}, added)
        keys.require_complete(source['type'], target.name)
    try:
        features = compare_features(start.state, start.meta, backbone, added)
    except UsageError as error:
        raise UsageError(f'{start.file}: {error}') from error
    with _as_another_network(start, network):
        features.require_equal(target.name)
    return keys, features


@contextmanager
def _as_another_network(start: Start, network: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        raise UsageError(f'{start.file} holds a {spelled(start.meta["backbone"])}, another network '
                         f'than the config’s {spelled(network)}: {error}. To train the network of '
                         f'the weights, add --cfg-options model.backbone=None') from error
