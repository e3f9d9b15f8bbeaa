"""torch.compile of the networks of a method, by a config's ``compile``."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.device import get_device

from densessl.bounds import check_values
from densessl.errors import UsageError, check_arguments
from densessl.method import Method


def compile_backbones(method: Method, arguments: dict[str, Any]) -> int:
    """Compile the backbone's forward pass, and that of networks of the same class beside it (a
    target or key network). Names of parameters and hooks on the modules stay what they are.

    Args:
        arguments: of ``torch.compile``, from :func:`checked_options`.

    Returns:
        How many networks are compiled, each when it is first used.

    Raises:
        UsageError: torch cannot compile on this machine.
    """
    _try(arguments)
    networks = [child for child in method.children() if type(child) is type(method.backbone)]
    for network in networks:
        network.forward = torch.compile(network.forward, **arguments)
    return len(networks)


def checked_options(options: Mapping[str, Any] | bool | None) -> dict[str, Any] | None:
    """The arguments of ``torch.compile`` that a config's ``compile`` means; None: do not compile.

    Raises:
        UsageError: an unknown argument, or a value that it does not take.
    """
    if options is None or options is False:
        return None
    arguments = {} if options is True else dict(options)
    check_arguments(torch.compile, {'model': None, **arguments}, 'compile')
    check_values(torch.compile, arguments, 'compile.')
    return arguments


def _try(arguments: dict[str, Any]) -> None:
    """Compile something small: only that shows what is missing."""
    try:
        torch.compile(torch.square, **arguments)(torch.ones(2, device=get_device()))
    except Exception as error:      # of many kinds: a missing compiler, backend or header
        reason = next((line for line in str(error).splitlines() if line.strip()), '')
        raise UsageError(
            f'compile: torch.compile does not work on this machine ({type(error).__name__}: '
            f'{reason[:160]}); on a CPU it needs a C++ compiler (g++, or the one that CXX names); '
            f'without it leave compile out') from error
