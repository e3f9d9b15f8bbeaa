"""Tables that rename the keys of a state dict, read in both directions."""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

State = dict[str, Tensor]
Change = Callable[[Tensor], Tensor]

# What a placeholder of a template stands for. Each is one value, wherever it stands.
_PLACEHOLDERS = {'i': r'\d+', 'j': r'\d+', 'p': 'weight|bias',
                 'n': 'weight|bias|running_mean|running_var|num_batches_tracked',
                 'rest': '.+'}     # written {*}


@dataclass(frozen=True)
class Rename:
    """One line of a table: two templates of the same key, such as ``blocks.{i}.fc1.{p}`` and
    ``encoder.{i}.mlp.0.{p}``.

    Args:
        own: the key in the library's own layout; ``{i}``, ``{j}`` are numbers, ``{p}`` is weight
            or bias, ``{n}`` any entry of a batch normalization, ``{*}`` any rest of a key.
        neutral: the key in the neutral layout.
        read: what the value goes through from the own to the neutral layout.
        write: its inverse.
    """

    own: str
    neutral: str
    read: Change | None = None
    write: Change | None = None


class KeyMap:
    """A table of :class:`Rename`; the first line that fits a key applies.

    A key that no line fits makes the whole state dict unreadable: a weight that has no place in
    the other layout is a function that the other network does not compute.
    """

    def __init__(self, renames: Iterable[Rename]) -> None:
        lines = [(line.own.replace('{*}', '{rest}'), line.neutral.replace('{*}', '{rest}'), line)
                 for line in renames]
        self._reads = [(_pattern(own), neutral, line.read) for own, neutral, line in lines]
        self._writes = [(_pattern(neutral), own, line.write) for own, neutral, line in lines]

    def to_neutral(self, state: State) -> State | None:
        """``state`` in the neutral layout, or None if it has a key that is not in the table."""
        return _renamed(state, self._reads)

    def to_own(self, neutral: State) -> State | None:
        """A neutral state dict in the library's own layout, or None."""
        return _renamed(neutral, self._writes)


def _renamed(state: State, lines: list[tuple[re.Pattern[str], str, Change | None]]
             ) -> State | None:
    renamed: State = {}
    for key, value in state.items():
        for pattern, template, change in lines:
            match = pattern.fullmatch(key)
            if match:
                renamed[template.format(**match.groupdict())] = change(value) if change else value
                break
        else:
            return None
    return renamed if len(renamed) == len(state) else None   # two keys became one


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r'\{(\w+)\}', template)     # text and placeholders in turn
    regex = ''.join(re.escape(part) if index % 2 == 0 else f'(?P<{part}>{_PLACEHOLDERS[part]})'
                    for index, part in enumerate(parts))
    return re.compile(regex)
