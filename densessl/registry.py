"""The three registries, which plugins fill (:mod:`densessl.plugins`): the name by which users
import them."""
from densessl.plugins import MASK_GENERATORS, METHODS, TRANSFER_TARGETS, PluginRegistry

__all__ = ['MASK_GENERATORS', 'METHODS', 'TRANSFER_TARGETS', 'PluginRegistry']
