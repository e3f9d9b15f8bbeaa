"""The three registries, which plugins fill (:mod:`densessl.plugins`): the name by which users and
mmengine, when it meets the scope ``densessl``, import them."""
from densessl.plugins import MASK_GENERATORS, METHODS, TRANSFER_TARGETS, PluginRegistry

__all__ = ['MASK_GENERATORS', 'METHODS', 'TRANSFER_TARGETS', 'PluginRegistry']
