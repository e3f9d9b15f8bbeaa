"""What the types in a downstream config take: overrides are held against it."""
from __future__ import annotations

from mmengine import Config, registry

from densessl.bounds import parameters_of
from densessl.overrides import ArgumentsOf

_REGISTRIES = ('MODELS', 'DATASETS', 'TRANSFORMS', 'LOOPS', 'HOOKS', 'OPTIMIZERS', 'OPTIM_WRAPPERS',
               'PARAM_SCHEDULERS', 'DATA_SAMPLERS', 'METRICS', 'VISUALIZERS', 'LOG_PROCESSORS')


def arguments_in(published: Config) -> ArgumentsOf:
    """For :func:`densessl.overrides.settle_types`: the arguments of the classes that a downstream
    config names, whose library has been imported."""
    def arguments_of(path: str, kind: str) -> set[str] | None:
        for name in _REGISTRIES:
            try:
                cls = getattr(registry, name).get(
                    kind if '.' in kind else f'{published.default_scope}.{kind}')
            except (ImportError, RuntimeError, ValueError):     # a name that leads nowhere
                return None
            if isinstance(cls, type):
                parameters = parameters_of(cls)
                return None if '**' in parameters else set(parameters) - {'self', 'params'}
        return None
    return arguments_of
