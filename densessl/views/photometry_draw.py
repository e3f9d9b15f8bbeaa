"""What of a view's photometry is drawn, and what its arguments may be.

A sample's parameters are one row of float32, drawn in a loader worker; the row says all that the
device needs to know (:mod:`densessl.views.photometry`).
"""
from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np

from densessl.bounds import ODD, Range, Share, check_section, pair
from densessl.errors import UsageError, check_keys, refuse_value

PARAMETERS = ('brightness', 'contrast', 'saturation', 'hue', 'order', 'gray', 'sigma', 'solarize',
              'kernel', 'style')
(BRIGHTNESS, CONTRAST, SATURATION, HUE, ORDER, GRAY, SIGMA, SOLARIZE, KERNEL,
 STYLE) = range(len(PARAMETERS))
ORDERS = list(itertools.permutations((BRIGHTNESS, CONTRAST, SATURATION, HUE)))
NO_JITTER, NO_SOLARIZE = -1.0, 2.0   # a value of `order` / `solarize` that leaves pixels alone
GRAY_AFTER, GRAY_BEFORE = 1.0, 2.0
# values of `style`: torchvision's, which blends with gray, and TensorFlow's in HSV; brightness is a
# factor in the first and the last, what is added in the other
BLENDED, HSV_ADDED, HSV_SCALED = 0.0, 1.0, 2.0
LUMA = (0.2989, 0.587, 0.114)        # ITU-R 601, as torchvision and TensorFlow round it
STYLES = ('torchvision', 'tensorflow')
DEFAULT_STYLE = STYLES[0]
RULES = ('add', 'multiply')
STRONGEST, WIDEST, KERNEL_OF_224 = 10, 1000, 23


def kernel_of(size: int) -> int:
    """The side of the blur's Gaussian for a view of ``size`` pixels: a tenth, made odd as the
    releases do, ``2 · ⌊size / 20⌋ + 1``; 23 for 224."""
    return 2 * (size // 20) + 1


def parameters(rng: np.random.Generator, *, jitter: dict[str, Any] | None = None,
               gray: float = 0.0, gray_first: bool = False, blur: dict[str, Any] | None = None,
               solarize: dict[str, float] | None = None, style: str = DEFAULT_STYLE
               ) -> np.ndarray:
    """Draw one view's photometric parameters; see ``AugmentedView`` for the arguments. Both
    styles take the same numbers from ``rng``.

    Returns:
        (P,) float32 in the order of :data:`PARAMETERS`.
    """
    row = np.array([1, 1, 1, 0, NO_JITTER, 0, 0, NO_SOLARIZE, KERNEL_OF_224, BLENDED],
                   dtype=np.float32)
    if style == 'tensorflow':
        row[STYLE] = HSV_ADDED if brightness_rule(jitter, style) == 'add' else HSV_SCALED
        row[BRIGHTNESS] = 0 if row[STYLE] == HSV_ADDED else 1
    if jitter and rng.random() < jitter['p']:
        for column in (BRIGHTNESS, CONTRAST, SATURATION):
            strength = jitter.get(PARAMETERS[column], 0.0)
            added = column == BRIGHTNESS and row[STYLE] == HSV_ADDED
            low, high = (-strength, strength) if added else (max(0.0, 1 - strength), 1 + strength)
            row[column] = rng.uniform(low, high)
        row[HUE] = rng.uniform(-jitter.get('hue', 0.0), jitter.get('hue', 0.0))
        row[ORDER] = rng.integers(len(ORDERS))
    if rng.random() < gray:
        row[GRAY] = GRAY_BEFORE if gray_first else GRAY_AFTER
    if blur and 'kernel' in blur:
        row[KERNEL] = blur['kernel']
    if blur and rng.random() < blur['p']:
        row[SIGMA] = rng.uniform(*blur['sigma'])
    if solarize and rng.random() < solarize['p']:
        row[SOLARIZE] = solarize.get('threshold', 0.5)
    return row


def brightness_rule(jitter: Mapping[str, Any] | None, style: str) -> str:
    """Whether brightness is added or multiplied: as ``jitter`` says, else as the style has it."""
    said = jitter if isinstance(jitter, Mapping) else {}
    return said.get('brightness_rule', 'add' if style == 'tensorflow' else 'multiply')


def check_parameters(*, size: int, style: str, jitter: dict[str, Any] | None, gray: float,
                     gray_first: bool, blur: dict[str, Any] | None,
                     solarize: dict[str, float] | None) -> None:
    """Raise UsageError for arguments that :func:`parameters` cannot draw from, or whose numbers
    the kernels are not made for; ``size`` is the side in pixels of what is blurred."""
    check_section('', dict(style=style, gray=gray, gray_first=gray_first),
                  dict(style=Literal[STYLES], gray=Share, gray_first=bool))
    kernel = Annotated[int, Range(1, max(1, 2 * size - 1)), ODD]
    for name, given, kinds, needed in (
            ('jitter', jitter, _kinds_of_jitter(brightness_rule(jitter, style)), ('p',)),
            ('blur', blur, {'p': Share, 'sigma': pair(0.01, WIDEST), 'kernel': kernel},
             ('p', 'sigma')),
            ('solarize', solarize, {'p': Share, 'threshold': Share}, ('p',))):
        if given is None:
            continue
        if not isinstance(given, Mapping):
            refuse_value(name, given, f'a dict of {", ".join(kinds)}')
        check_keys(name, given, kinds)
        if missing := [key for key in needed if key not in given]:
            raise UsageError(f'{name} needs {" and ".join(missing)}; it takes {", ".join(kinds)}')
        check_section(f'{name}.', given, kinds)
    if brightness_rule(jitter, style) == 'add' and style != 'tensorflow':
        raise UsageError("jitter.brightness_rule 'add' needs style='tensorflow'")


def _kinds_of_jitter(rule: Any) -> dict[str, Any]:
    factor = Annotated[float, Range(0, STRONGEST)]
    return {'p': Share, 'brightness': Share if rule == 'add' else factor, 'contrast': factor,
            'saturation': factor, 'hue': Annotated[float, Range(0, 0.5)],
            'brightness_rule': Literal[RULES]}


def check_rows(rows: np.ndarray) -> None:
    """The contract of the kernels: rows (B, P) float32 of what :func:`parameters` may draw.
    Numba checks no index, so that a row from elsewhere could read or write foreign memory.

    Raises:
        ValueError: it is not kept.
    """
    if rows.ndim != 2 or rows.shape[1] != len(PARAMETERS) or rows.dtype != np.float32:
        raise ValueError(f'photometric parameters must be (B, {len(PARAMETERS)}) float32, '
                         f'not {rows.shape} {rows.dtype}')
    if not np.isfinite(rows).all():
        raise ValueError('photometric parameters must be finite')
    for column, least, most in ((ORDER, NO_JITTER, len(ORDERS) - 1), (KERNEL, 1, 1e5),
                                (STYLE, BLENDED, HSV_SCALED)):
        values = rows[:, column]
        if ((values < least) | (values > most) | (values != np.floor(values))).any():
            raise ValueError(f'{PARAMETERS[column]} must be a whole number in {least:g} … '
                             f'{most:g}, not {values.tolist()}')
    if ((rows[:, SIGMA] < 0) | (rows[:, SIGMA] > WIDEST)).any():
        raise ValueError(f'sigma must be in 0 … {WIDEST}, not {rows[:, SIGMA].tolist()}')
