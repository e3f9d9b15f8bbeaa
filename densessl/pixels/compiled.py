"""How numba compiles what Python calls, for every kernel of the input and of the masks.

Without fastmath: with it the bits would depend on how LLVM vectorizes, which differs between the
process that compiles and those that load the compiled code.

The compiled code is kept in ``__pycache__`` and is made anew when the file of the decorated
function changes, not when a function or a constant of another file does. So what an entry calls
stands in its file, and a change of a constant from elsewhere needs an edit there as well.
"""
from __future__ import annotations

from collections.abc import Callable

from numba import njit

OPTIONS = dict(nogil=True, error_model='numpy')


def entry(function: Callable) -> Callable:
    """Compile ``function`` at its first call, keeping the code for later processes in
    ``__pycache__``, or where that cannot be written in the user's cache; without either each
    process compiles for itself."""
    try:
        return njit(cache=True, **OPTIONS)(function)
    except RuntimeError:
        return njit(**OPTIONS)(function)
