"""What values an argument may take, declared beside it by its annotation and checked in one place.

A constructor that a config names writes ``temperature: Temperature = 0.1`` or
``queue: Annotated[int, Range(1, 2 ** 24)] = 65536``; plain ``int``, ``float``, ``bool``, ``str``,
sequences, mappings, unions and literals say what they mean. What is annotated otherwise, or not at
all, is not checked.
"""
from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from densessl.errors import did_you_mean, refuse_value

MOST_WHOLE = 2 ** 63 - 1    # what compiled code and files can hold
MOST_OF_NAME = 200          # characters


@dataclass(frozen=True)
class Range:
    """The numbers from ``least`` to ``most``; ``above`` and ``below`` leave the bound itself out.
    NaN and infinities are in no range."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def holds(self, value: float) -> bool:
        """Whether ``value`` is within."""
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        if math.isfinite(self.least) and math.isfinite(self.most):
            return f'from {_number(self.least)} to {_number(self.most)}'
        low = (f'of at least {_number(self.least)}' if math.isfinite(self.least) else
               f'above {self.above:g}' if math.isfinite(self.above) else '')
        high = (f'at most {_number(self.most)}' if math.isfinite(self.most) else
                f'below {self.below:g}' if math.isfinite(self.below) else '')
        return ' and '.join(part for part in (low, high) if part)


@dataclass(frozen=True)
class Rule:
    """What else a value must be; a message has ``words`` after the kind of value."""

    holds: Callable[[Any], bool]
    words: str

    def __str__(self) -> str:
        return self.words


ODD = Rule(lambda number: number % 2 == 1, 'that is odd')
ASCENDING = Rule(lambda numbers: list(numbers) == sorted(numbers), ', in ascending order')
NOT_EMPTY = Rule(lambda text: bool(text.strip()), 'that is not empty')
NAME = Rule(lambda text: (len(text) <= MOST_OF_NAME
                          and re.fullmatch(r'[\w-]+(\.[\w-]+)*', text) is not None),
            'that is the name of a type')      # plain or dotted
TypeName = Annotated[str, NAME]
PlainName = Annotated[str, Rule(re.compile(rf'[\w-]{{0,{MOST_OF_NAME}}}').fullmatch,
                                'of letters, digits, _ and -')]
"""What a plugin calls a thing: configs name it, and a dot would make it a path."""

Width = Annotated[int, Range(1, 2 ** 16)]
"""Channels or units of a layer."""
Classes = Annotated[int, Range(1, 2 ** 20)]
"""How many classes a classifier tells apart."""
Temperature = Annotated[float, Range(above=0)]
"""What logits are divided by."""
Share = Annotated[float, Range(0, 1)]
"""A probability, or the momentum of an average (1: it never moves)."""
Momentum = Annotated[float, Range(0, below=1)]
"""The momentum of an optimizer."""
NotNegative = Annotated[float, Range(0)]
"""A decay, a deviation."""


def whole(least: int, most: int) -> Any:
    """The whole numbers from ``least`` to ``most``."""
    return Annotated[int, Range(least, most)]


Seed = whole(0, 2 ** 32 - 1)
"""What every generator takes; the limit is that of NumPy's old one."""


def channels(least: float, most: float) -> Any:
    """A number for each of red, green and blue."""
    number = Annotated[float, Range(least, most)]
    return tuple[number, number, number]


def pair(least: float, most: float) -> Any:
    """Two numbers ``least`` ≤ low ≤ high ≤ ``most``."""
    number = Annotated[float, Range(least, most)]
    return Annotated[tuple[number, number], ASCENDING]


def check_values(function: Callable[..., Any], arguments: Mapping[str, Any], prefix: str) -> None:
    """Check ``arguments`` of ``function`` (a class, too) by its annotations.

    Args:
        prefix: what stands before an argument's name in the message, such as ``model.``.

    Raises:
        UsageError: a value that its annotation does not allow.
    """
    kinds, parameters = _annotations(function), inspect.signature(function).parameters
    for name, value in arguments.items():
        default = parameters[name].default if name in parameters else inspect.Parameter.empty
        if name in kinds and value is not default:
            check_value(f'{prefix}{name}', value, kinds[name])


def check_value(key: str, value: Any, kind: Any) -> None:
    """Raise UsageError, by its ``key``, for a ``value`` that the annotation ``kind`` does not
    allow."""
    if not allows(kind, value):
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        refuse_value(key, value, words(kind),
                     did_you_mean(value, choices) if isinstance(value, str) else '')


def check_section(prefix: str, section: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Check the values of those keys of ``section`` that ``kinds`` has.

    Args:
        prefix: what stands before a key in the message: ``''``, or ``'schedule.'``.

    Raises:
        UsageError: a value that is not allowed, by its key.
    """
    for key, kind in kinds.items():
        if key in section:
            check_value(f'{prefix}{key}', section[key], kind)


def allows(kind: Any, value: Any) -> bool:
    """Whether an annotation allows ``value``; one that is not understood allows all."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        bounds = [bound for bound in inner[1:] if hasattr(bound, 'holds')]
        return allows(inner[0], value) and all(bound.holds(value) for bound in bounds)
    if origin in (Union, UnionType):
        return any(allows(one, value) for one in inner)
    if origin is Literal:
        return any(type(one) is type(value) and one == value for one in inner)
    if kind in (None, NoneType):
        return value is None
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return (isinstance(value, int) and not isinstance(value, bool)
                and abs(value) <= MOST_WHOLE)
    if kind is float:
        return is_number(value)
    if kind is str:
        return isinstance(value, str) and '\0' not in value
    return _allows_container(origin or kind, inner, value)


def words(kind: Any) -> str:
    """An annotation as a message says it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return ' '.join([words(inner[0]), *map(str, inner[1:])]).replace(' ,', ',')
    if origin in (Union, UnionType):
        return ' or '.join(words(one) for one in inner)
    if origin is Literal:
        return ' or '.join(repr(one) for one in inner)
    plain = {None: 'None', NoneType: 'None', bool: 'True or False', int: 'a whole number',
             float: 'a number', str: 'text', dict: 'a dict', Mapping: 'a dict'}
    of = origin or kind
    if of in plain:
        return plain[of]
    if of is tuple and inner and inner[-1] is not Ellipsis:
        return f'{len(inner)} values, each {words(inner[0])}'
    if of in (tuple, list, Sequence):
        return 'a list' + (f', each {words(inner[0])}' if inner else '')
    return getattr(of, '__name__', str(of))


def _allows_container(origin: Any, inner: tuple[Any, ...], value: Any) -> bool:
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and (len(inner) < 2 or all(
            allows(inner[0], key) and allows(inner[1], one) for key, one in value.items()))
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        return isinstance(value, (list, tuple)) and len(value) == len(inner) and all(
            allows(kind, one) for kind, one in zip(inner, value, strict=True))
    if origin in (tuple, list, Sequence):
        return isinstance(value, (list, tuple)) and all(
            allows(inner[0], one) for one in value if inner)
    return True


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite number within what a double can hold; truth values are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_count(value: Any) -> bool:
    """Whether what came in a file is a whole number from 0 on, and of no other class."""
    return type(value) is int and 0 <= value <= MOST_WHOLE


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function's or a constructor's arguments; none where they name what is
    imported for type checkers alone."""
    called = function.__init__ if inspect.isclass(function) else function
    try:
        return get_type_hints(called, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f'{value:g}'


def parameters_of(cls: type) -> dict[str, Any]:
    """The arguments of a class and their defaults, those behind ``**kwargs`` included; the key
    ``'**'`` if it takes any others besides."""
    found: dict[str, Any] = {}
    for ancestor in cls.__mro__:
        parameters = inspect.signature(ancestor.__init__).parameters.values()
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return found
    return {**found, '**': True}
