"""Reading a study's YAML file: every key and value is checked before anything is done."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from densessl.bounds import NOT_EMPTY, NotNegative, Range, Seed, check_section
from densessl.errors import UsageError, check_keys, did_you_mean, shown
from densessl.files.yaml_files import read_yaml
from densessl.study.plan import FILLED, RANDOM, Evaluation, Published, Source, Study, Weights

Text = Annotated[str, NOT_EMPTY]
Minutes = Annotated[float, Range(above=0, most=10 ** 7)]
Length = Annotated[float, Range(above=0, most=10 ** 4)]

FILE = {'name': Text, 'title': Text, 'question': Text, 'device': Literal['cpu', 'any'],
        'threads': Annotated[int, Range(1, 2 ** 10)], 'seeds': Sequence[Seed], 'data': dict,
        'pretraining': dict, 'pretrainings': dict, 'evaluations': dict, 'against': Text,
        'calibration': tuple[Annotated[int, Range(1, 10 ** 4)], Annotated[int, Range(1, 10 ** 4)]],
        'published_in': Text, 'readme': bool,
        'masks_on': Text}
SOURCE = {'what': Text, 'url': Text, 'label_maps_of': Text, 'classes': Sequence[Text]}
PRETRAINING = {
    'config': Text, 'weights': Text, 'backbone': Text, 'like': Text,
    'data': Text | Sequence[Text], 'cpu_minutes': Minutes | Sequence[Minutes],
    'epochs': Minutes, 'init': Text, 'options': dict, 'masks': dict, 'minutes': NotNegative,
    'seeds': Sequence[Seed], 'same_weights': bool, 'published': Published, 'note': Text}
EVALUATION = {
    'probe': Literal['dense', 'linear', 'knn'], 'finetune': Text, 'instead': Mapping[str, Text],
    'data': Text, 'fractions': Sequence[Text | float], 'lengths': Sequence[Length],
    'scores': Sequence[Text], 'arguments': dict, 'options': dict, 'minutes': NotNegative}
LENGTHS = ('epochs', 'cpu_minutes')
OF_WEIGHTS = ('weights', 'backbone', 'like', 'minutes', 'published', 'note')
OF_PROBES = ('size', 'square', 'stage', 'ignore', 'map', 'decay', 'neighbors', 'temperature')


def read_study(path: str | Path) -> Study:
    """Read a study file.

    Raises:
        UsageError: it is none; the message names the key, the choices and the remedy.
    """
    path = Path(path)
    content = read_yaml(path)
    try:
        return study_of(content, path.stem)
    except UsageError as error:
        raise UsageError(f'{path}: {error}') from error


def study_of(content: Any, stem: str) -> Study:
    """The study that ``content`` describes as a file would, named ``stem`` if it has no name.

    Raises:
        UsageError: as :func:`read_study`.
    """
    _check('the study', content, FILE, needs=('data', 'pretrainings', 'evaluations'))
    for part in ('data', 'pretrainings', 'evaluations'):
        if not content[part]:
            raise UsageError(f'{part} is empty: name at least one')
    name = content.get('name', stem)
    if not re.fullmatch(r'[\w-]+', name):
        raise UsageError(f'name {shown(name)}: letters, digits, - and _ only')
    sources = {str(key): _source(str(key), value, content['data'])
               for key, value in content['data'].items()}
    common = content.get('pretraining', {})
    _check('pretraining', common, {key: kind for key, kind in PRETRAINING.items()
                                   if key != 'weights'})       # a row's own
    weights = [one for key, value in content['pretrainings'].items()
               for one in _weights(str(key), value, common, sources)]
    evaluations = [one for key, value in content['evaluations'].items()
                   for one in _evaluations(str(key), value, sources)]
    _check_names(weights, evaluations)
    _among('against', content.get('against'), [one.name for one in weights])
    _among('masks_on', content.get('masks_on'), sources)
    first, second = content.get('calibration', (2, 10))
    if second <= first:
        raise UsageError(f'calibration [{first}, {second}]: the second run must have more steps')
    return Study(
        name, content.get('title', name), content.get('question', ''),
        content.get('device', 'cpu'), content.get('threads', 1),
        tuple(dict.fromkeys(content.get('seeds', [0]))), sources, tuple(weights),
        tuple(evaluations), content.get('against'), (first, second),
        content.get('published_in', ''), content.get('readme', False),
        content.get('masks_on'))


def _check_names(weights: Sequence[Weights], evaluations: Sequence[Evaluation]) -> None:
    """Check that what pretrainings and evaluations say of each other is about some of them."""
    names, scored = [one.name for one in weights], [one.name for one in evaluations]
    for one in weights:
        _among(f'pretrainings.{one.name}.like', one.like, names)
        for key in one.published:
            _among(f'pretrainings.{one.name}.published', key, scored)
    for one in evaluations:
        for key in one.instead:
            _among(f'evaluations.{one.name}.instead', key, names)


def _source(name: str, value: Any, all_of_them: Mapping[str, Any]) -> Source:
    value = {'what': value} if isinstance(value, str) else value or {}
    _check(f'data.{name}', value, SOURCE)
    if not re.fullmatch(r'[\w.-]+', name):
        raise UsageError(f'data.{name}: a name has letters, digits and . - _ only')
    _among(f'data.{name}.label_maps_of', value.get('label_maps_of'), all_of_them)
    return Source(**{**value, 'classes': tuple(value.get('classes', ()))})


def _weights(name: str, value: Any, common: Mapping[str, Any], sources: Mapping[str, Source]
             ) -> list[Weights]:
    where = f'pretrainings.{name}'
    _check(where, value, PRETRAINING)
    given = value if 'weights' in value else {**common, **value}
    if ('weights' in value) == ('config' in given):
        raise UsageError(f'{where}: give config (it is pretrained) or weights (random, or the '
                         f'name of a file in data), and not both')
    if 'weights' in value:
        return [_ready(name, where, value, sources)]
    if any(key in value for key in LENGTHS):    # what a row says outweighs what all have
        given = {key: one for key, one in given.items() if key in value or key not in LENGTHS}
    options = {**common.get('options', {}), **value.get('options', {})}
    return _trained(name, where, {**given, 'options': options}, sources)


def _ready(name: str, where: str, value: Mapping[str, Any], sources: Mapping[str, Source]
           ) -> Weights:
    """Weights that are not trained here."""
    if value['weights'] != RANDOM:
        _among(f'{where}.weights', value['weights'], [RANDOM, *sources])
    elif 'backbone' not in value:
        raise UsageError(f'{where}: random weights need a backbone: TARGET.NAME')
    for key in value:
        if key not in OF_WEIGHTS:
            raise UsageError(f'{where}.{key} does nothing for weights that are not trained '
                             f'here; they take {", ".join(OF_WEIGHTS)}')
    return Weights(name, **value)


def _trained(name: str, where: str, given: dict[str, Any], sources: Mapping[str, Source]
             ) -> list[Weights]:
    """A pretraining, for each of its CPU times."""
    if ('epochs' in given) == ('cpu_minutes' in given):
        raise UsageError(f'{where}: give epochs or cpu_minutes, and not both')
    data = _listed(given.pop('data', ()))
    if not data:
        raise UsageError(f'{where}: data is missing: what is it pretrained on?')
    for one in data:
        _among(f'{where}.data', one.partition('/')[0], sources)
    _among(f'{where}.init', given.get('init'), sources)
    for key in ('init', 'data', 'epochs', 'seed'):
        if key in given['options']:
            raise UsageError(f'{where}.options.{key}: give {"seeds" if key == "seed" else key} as '
                             f'a key of its own, not among the options')
    for key, value in given['options'].items():
        for one in re.findall(FILLED, value) if isinstance(value, str) else ():
            _among(f'{where}.options.{key}', one, sources)
    budgets = dict.fromkeys(_listed(given.pop('cpu_minutes', None)))
    seeds = tuple(dict.fromkeys(given.pop('seeds'))) if 'seeds' in given else None
    return [Weights(name, data=data, cpu_minutes=minutes, seeds=seeds, **given)
            for minutes in budgets]


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _evaluations(name: str, value: Any, sources: Mapping[str, Source]) -> list[Evaluation]:
    where = f'evaluations.{name}'
    _check(where, value, EVALUATION, needs=('data',))
    if ('probe' in value) == ('finetune' in value):
        raise UsageError(f'{where}: give probe (dense, linear or knn) or finetune (a downstream '
                         f'config), and not both')
    _among(f'{where}.data', value['data'].partition('/')[0], sources)
    check_keys(f'{where}.arguments', value.get('arguments', {}), OF_PROBES)
    for key in ('options', 'instead', 'lengths') if 'probe' in value else ('arguments',):
        if key in value:
            raise UsageError(f'{where}.{key} does nothing here: a probe takes arguments; options, '
                             f'lengths and other configs are for fine-tuning')
    fractions = dict.fromkeys(_fraction(f'{where}.fractions', one)
                              for one in value.get('fractions', [1]))
    scores = tuple(dict.fromkeys(value.get('scores', ('mIoU',))))
    given = {key: value[key] for key in ('data', 'probe', 'finetune', 'instead', 'arguments',
                                         'options', 'minutes') if key in value}
    return [Evaluation(name, fraction=fraction, length=length, scores=scores, **given)
            for length, fraction in product(dict.fromkeys(value.get('lengths', [1.0])), fractions)]


def _fraction(where: str, value: Any) -> float:
    try:
        fraction = float(Fraction(str(value)))
    except (ValueError, ZeroDivisionError):
        fraction = 0.0
    if not 0 < fraction <= 1:
        raise UsageError(f'{where}: {shown(value)} must be above 0 and at most 1, such as 1/8')
    return fraction


def _check(where: str, value: Any, kinds: Mapping[str, Any], needs: Sequence[str] = ()) -> None:
    """Check the keys of a part of the file and their values."""
    if not isinstance(value, Mapping):
        raise UsageError(f'{where} must be keys with values, not {shown(value)}; keys: '
                         f'{", ".join(kinds)}')
    check_keys(where, value, kinds)
    for key in needs:
        if key not in value:
            raise UsageError(f'{where} has no {key}: it must say that')
    check_section(f'{where}: ', value, kinds)


def _among(where: str, name: str | None, known: Any) -> None:
    if name is not None and name not in known:
        raise UsageError(f'{where}: {shown(name)} is not in the file{did_you_mean(name, known)}; '
                         f'there are: {", ".join(dict.fromkeys(map(str, known)))}')
