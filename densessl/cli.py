"""The ``densessl`` command; ``tools/NAME.py`` are thin doors to the same functions.

Exit codes: 0 done, 1 failed while running, 2 wrong usage or input (one line, no traceback;
``--debug`` shows it), 75 stopped by SIGUSR1 and to be started again.
"""
from __future__ import annotations

import argparse
import gc
import logging
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from densessl.environment import explain
from densessl.errors import Interrupted, RunFailed, UsageError, escaped, message_of
from densessl.machine.cores import share_cores

COMMANDS = {   # name -> what it does; the code is in densessl/commands/NAME.py
    'train': 'pretrain a backbone on unlabelled images',
    'make_masks': 'make the region masks of a folder of images',
    'make_label_maps': "draw label maps from annotations in COCO's format",
    'make_shards': 'copy images and their masks into tar shards',
    'views': 'draw the views that a config makes of some images',
    'report': 'show what pretraining runs did, and whether they are healthy',
    'export': 'take the backbone out of a checkpoint',
    'check': 'open the labelled data of a downstream config and say what is wrong with it',
    'finetune': 'fine-tune and score a backbone on labelled images',
    'benchmark': 'compare initializations at several numbers of labels',
    'probe': 'measure frozen or fine-tuned features on label maps or classes of images',
    'study': 'pretrain and score what a file compares, and write tables, curves and pages',
    'predict': 'draw what a fine-tuned model finds in images',
    'demo': 'the whole way on a built-in sample, with a report',
    'plugins': 'list the installed plugins',
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0].replace('-', '_') in COMMANDS:
        argv = [argv[0].replace('-', '_'), *argv[1:]]
    share_cores()
    gc.set_threshold(7000)      # cycles are rare: looking for them was a seventh of start-up
    logging.raiseExceptions = False     # an error of logging must not hide the line with the cause
    for stream in (sys.stdout, sys.stderr):     # a file's name may hold what they cannot encode
        if getattr(stream, 'errors', None) == 'strict':
            stream.reconfigure(errors='backslashreplace')
    parser = argparse.ArgumentParser(
        prog='densessl', description='Pretrain vision backbones without labels for dense '
        'prediction, and hand them to detection and segmentation libraries.')
    parser.add_argument('--version', action='store_true', help='print the version')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND')
    for name, what in COMMANDS.items():
        command = commands.add_parser(name, help=what, description=what.capitalize() + '.')
        if name in argv[:1]:   # only the command that runs is imported
            import_module(f'densessl.commands.{name}').add_arguments(command)
            command.add_argument('--debug', action='store_true', help='show tracebacks of errors')
    args = parser.parse_args(argv)
    if args.version:
        from densessl import __version__
        print(__version__)
        return 0
    if args.command is None:
        parser.print_help()
        return 2
    return _run(args, argv)


def _run(args: argparse.Namespace, argv: list[str]) -> int:
    try:
        _refuse_empty({**vars(args), 'an argument': argv})   # as a path, '' is the current folder
        return import_module(f'densessl.commands.{args.command}').run(args) or 0
    except (UsageError, RunFailed, Interrupted) as error:
        if args.debug:
            traceback.print_exc()
        lines = map(escaped, message_of(error).split('\n'))    # it may quote what came in a file
        print(f'densessl {args.command}: ' + '\n'.join(lines), file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except (OSError, MemoryError, RuntimeError) as error:
        known = explain(error)
        if known is None or args.debug:
            raise
        print(f'densessl {args.command}: {message_of(known)}', file=sys.stderr)
        return 2 if isinstance(known, UsageError) else 1
    except SystemExit as error:     # commands return their code, so it is a plugin's or a config's
        if args.debug:
            raise RuntimeError('sys.exit') from error
        print(f'densessl {args.command}: a plugin or a config called sys.exit({error.code!r}), '
              f'where --debug shows; it must raise an error', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f'densessl {args.command}: interrupted', file=sys.stderr)
        return 1


def _refuse_empty(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and (not text.strip() or '\0' in text):
                raise UsageError(f'{name} is {text!r}: it must be text without NUL characters; '
                                 f'fill it in or leave it out')


if __name__ == '__main__':
    sys.exit(main())
