"""``densessl export``: take the backbone out of a checkpoint, as plain weights with provenance."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densessl.errors import UsageError

if TYPE_CHECKING:
    from densessl.export.export import Exported
    from densessl.export.foreign_file import Foreign


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument('checkpoint', help='a checkpoint of densessl train, an exported '
                        'backbone that is to get a copy for another library, or with --from '
                        'weights that come from elsewhere')
    parser.add_argument('--out', help='where to write '
                        '(default: backbone.pth beside the checkpoint)')
    parser.add_argument('--to', metavar='TARGET', help='also write a copy with the keys of this '
                        'transfer target, checked on its own backbone')
    parser.add_argument('--from', dest='layout', metavar='LAYOUT', help='import a checkpoint of '
                        'other code: auto, the name of a layout (an unknown one lists them), or '
                        'the prefix of the backbone’s keys with a dot at its end')
    parser.add_argument('--as', dest='network', metavar='TARGET.NAME', help='with --from: the '
                        'network that it is, with arguments as '
                        "'TARGET.NAME(depth=50)'; --from TARGET reads the library's own keys")
    parser.add_argument('--mean', type=float, nargs=3, metavar='X', help='with --from: of the '
                        'pixels 0 … 255 that the weights were trained on')
    parser.add_argument('--std', type=float, nargs=3, metavar='X', help='with --from: as --mean')
    parser.add_argument('--channel-order', choices=('RGB', 'BGR'), help='with --from')
    parser.add_argument('--safetensors', action='store_true',
                        help='also write the backbone in that format')
    parser.add_argument('--overwrite', action='store_true',
                        help='replace files that hold other weights, or these with another '
                        'provenance')


def run(args: argparse.Namespace) -> int:
    """Export; print what was written and how it was checked."""
    from rich.console import Console

    from densessl.backbones import spelled
    from densessl.export.export import export_backbone
    from densessl.weights.lineage import lineage
    from densessl.weights.provenance import describe
    done = export_backbone(args.checkpoint, args.out, args.to, args.overwrite, _foreign(args),
                           args.safetensors)
    for line in done.notes:
        print(line)
    if done.filled is not None:
        print(f'weights: {done.filled.summary()}')
        Console().print(done.filled.table())
    numbers = sum(value.numel() for value in done.state.values())
    _say(done.path, done, f'{describe(done.meta)}; {len(done.state)} tensors, '
         f'{numbers / 1e6:.1f} M values')
    for line in lineage(done.meta):
        print(f'  {line}')
    if done.safetensors is not None:
        _say(done.safetensors, done, 'the same as safetensors')
    if done.copy is not None:
        _say(done.copy, done, f'with the keys of {args.to}')
        if done.keys is None:
            print(f'  not checked: {args.to} has no backbone that it is known to belong to')
        else:
            print(f'  checked on {spelled(done.counterpart)}: {done.keys.summary()}; '
                  f'{done.features.summary()}')
            Console().print(done.keys.table())
    print(f'next: densessl finetune CONFIG --backbone {done.path} --data-root DIR')
    return 0


def _foreign(args: argparse.Namespace) -> Foreign | None:
    from densessl.export.foreign_file import Foreign
    from densessl.export.named_network import parse_network
    about: dict[str, Any] = {name: getattr(args, name) for name in ('mean', 'std', 'channel_order')
             if getattr(args, name) is not None}
    if args.network is not None:
        about['network'] = parse_network(args.network)
    if args.layout is None:
        if about:
            option = 'as' if 'network' in about else next(iter(about)).replace('_', '-')
            raise UsageError(f'--{option} is for imports: add --from '
                             f'auto; checkpoints of densessl record it themselves')
        return None
    return Foreign(args.layout, **about)


def _say(path: Path, done: Exported, what: str) -> None:
    print(f'{path}{" (already there)" if path in done.unchanged else ""}: {what}')
