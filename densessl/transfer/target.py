"""The contract of a transfer target: a library that receives (and builds) backbones."""
from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from mmengine import Config
from torch import nn

from densessl.bounds import PlainName
from densessl.errors import UsageError
from densessl.transfer.foreign_checkpoints import CheckpointLayout
from densessl.weights.key_layouts import Layout
from densessl.weights.keymap import State

if TYPE_CHECKING:
    from densessl.labels.class_labels import ClassImages
    from densessl.labels.data_report import DataReport
    from densessl.labels.label_folder import LabelLayout
    from densessl.transfer.prediction import Prediction
    from densessl.transfer.recipe import Recipe


@dataclass(frozen=True)
class PublishedWeights:
    """A file of weights that a library publishes: downloaded only because the user asks.

    Attributes:
        address: where a browser gets it.
        license: as the library says it; empty if it does not.
        fetch: downloads it, unless it is in the library's cache, and returns where it is; raises
            OSError without a network.
    """

    address: str
    fetch: Callable[[], Path]
    license: str = ''


class TransferTarget:
    """A library on the other side: it builds its backbones by name, knows its key layout and, if
    it can, fine-tunes. Instances carry no state; a subclass's module imports the library only
    inside its methods, because every target is loaded when any is asked for."""

    name: ClassVar[PlainName] = ''
    """What a config writes before the dot (``type='name.resnet50'``) and ``--to`` takes."""

    def build_backbone(self, name: str, **kwargs: Any) -> nn.Module:
        """Build backbone ``name`` (what follows the dot) with random weights, initialized as the
        library does; a later ``init_weights`` of mmengine must find nothing left to do.

        Returns:
            A module whose ``forward`` maps (B, 3, H, W) to a tuple of feature maps
            (B, C_i, H_i, W_i), finest first, and whose ``state_dict`` has the library's own keys.
            Its ``stage_numbers``, if it has such an attribute, say which of the library's own
            stages each map is of; without it they count from 1.

        Raises:
            UsageError: unknown name; the message lists close ones.
        """
        raise UsageError(f'target {self.name!r} builds no backbones')

    # -- backbones that a file states: what build_backbone may be given by one -----------------

    def backbone_names(self) -> Collection[str]:
        """The closed list of backbones that a file of weights may name, as
        :meth:`build_backbone` takes them. Nothing is built, opened or imported but the library.

        The default is empty: weights of this library can be trained and written, and no file of
        them can be read, imported or started from.
        """
        return ()

    def backbone_arguments(self, name: str, arguments: Mapping[str, Any]
                           ) -> Mapping[str, Collection[str] | None]:
        """What a file may give to :meth:`build_backbone` of ``name``, one of
        :meth:`backbone_names`: each argument with the strings that it may be, or None for any
        plain word. Leave out what loads, opens, fetches or looks up something. Default: the named
        arguments of this class's ``build_backbone``.

        Args:
            arguments: what the file states, plain values all of them.

        Raises:
            UsageError: they cannot be given together.
        """
        parameters = inspect.signature(self.build_backbone).parameters.values()
        return {one.name: None for one in parameters
                if one.kind is one.KEYWORD_ONLY
                or (one.kind is one.POSITIONAL_OR_KEYWORD and one.name != 'name')}

    def layer_types(self) -> Collection[str]:
        """The closed list of what a ``type`` within an argument may name (norms, activations and
        other layers that the library has registered). Default: nothing."""
        return ()

    def layouts(self) -> list[Layout]:
        """How this library lays out the weights of families that other libraries have too; what
        :func:`densessl.transfer.translate.translate` goes by. Without one, backbones of this
        library are not exchanged with others."""
        return []

    def checkpoints(self) -> list[CheckpointLayout]:
        """Other people's checkpoints whose backbone this library builds; what ``export --from``
        goes by."""
        return []

    def own_files(self, name: str, backbone: nn.Module, **kwargs: Any) -> list[CheckpointLayout]:
        """How files that hold the whole network of ``backbone`` lay it out: what is before its
        keys, which keys are heads that the backbone leaves out, and the published input. What
        ``export --as`` goes by.

        Args:
            name: what follows the dot.
            backbone: as :meth:`build_backbone` gives it for ``name`` and ``kwargs``.
        """
        return [CheckpointLayout(self.name, f'{self.name}’s own keys')]

    def published_weights(self, name: str) -> PublishedWeights | None:
        """The file of weights that the library publishes for its network ``name``, in a layout of
        :meth:`own_files`; None if there is none that it could fetch by name. Nothing is downloaded
        before its ``fetch`` is called."""
        return None

    def added_modules(self, backbone: nn.Module, state: State) -> list[str]:
        """Paths of the modules that this library puts behind a backbone's feature maps and that
        the network of a translated ``state`` does not have: they start fresh without counting as
        missing, and the function check looks at what goes into them."""
        return []

    # -- labelled images: for targets whose library reads public data sets ---------------------

    image_sets: ClassVar[tuple[str, ...]] = ()
    """Names of the public sets of images in classes that the library reads from a disk."""

    def read_image_set(self, name: str, root: Path) -> tuple[ClassImages, ClassImages | None]:
        """The training and the test images of data set ``name``, one of :attr:`image_sets`, below
        ``root``; None for the latter if it has no split of its own. Never downloads.

        Raises:
            UsageError: ``root`` does not hold it.
        """
        raise UsageError(f'target {self.name!r} reads no data sets')

    def label_layouts(self) -> list[LabelLayout]:
        """How the library's data sets lay out images with label maps. What dense probes go by."""
        return []

    # -- fine-tuning: for targets whose configs mmengine's Runner trains ----------------------

    finetunes: ClassVar[bool] = False
    """Whether ``finetune`` can run configs of this library (their ``default_scope``)."""

    config_packages: ClassVar[dict[str, str]] = {}
    """Import name → distribution, where they differ, of libraries whose installed configs
    ``_base_ = 'IMPORT::…'`` may inherit."""

    config_imports: ClassVar[tuple[str, ...]] = ()
    """Modules whose import does what :meth:`prepare` does. The config that fine-tuning writes out
    names them, so that the library's own tools can go on with it."""

    def prepare(self) -> None:
        """Make the library importable and its modules registered (called once a config of it has
        been read, before anything of it is built)."""

    channel_order: ClassVar[str] = 'BGR'
    """Of the images that the library's loaders deliver."""

    def set_data(self, cfg: Config, root: str | None) -> list[str]:
        """Point every dataset of a downstream config at ``root`` (None: at the config's own) and
        adapt the model to it, such as the number of classes; return lines that say what it is.

        Raises:
            UsageError: something is missing there; the message lists it.
        """
        raise UsageError(f'target {self.name!r} cannot fine-tune')

    def inspect_data(self, cfg: Config) -> list[DataReport]:
        """Build the data sets of a config, as :meth:`set_data` left it, and count what they hold
        beside what the files do: a report for each part of ``train`` and of ``val``. Writes
        nothing and opens no image for its pixels; an empty list where nothing is known.

        Raises:
            UsageError: a data set cannot be built.
        """
        return []

    def translate_for(self, model: Mapping[str, Any], state: State, source: str) -> State:
        """:func:`densessl.transfer.translate.translate` for the backbone in the ``model`` of a
        downstream config.

        Raises:
            UsageError: no exact translation is known.
        """
        raise UsageError(f'target {self.name!r} cannot fine-tune')

    def load_weights(self, cfg: Config, path: str) -> None:
        """Have the downstream model load the translated weights at ``path`` by ``init_cfg``."""
        cfg.model.backbone.init_cfg = {'type': 'Pretrained', 'checkpoint': path}

    def backbone_modules(self, model: nn.Module) -> dict[str, nn.Module]:
        """The downstream model's modules that receive pretrained weights, by their prefix in the
        model (``{'backbone': model.backbone}``; a C4 detector adds its shared head)."""
        return {'backbone': model.backbone}

    def build_receivers(self, model: Mapping[str, Any]) -> dict[str, nn.Module]:
        """Build, of the ``model`` of a downstream config, what :meth:`backbone_modules` gives of
        the whole one: weights are held against it before anything is trained or written."""
        kwargs = {key: value for key, value in model['backbone'].items()
                  if key not in ('type', 'init_cfg')}
        return {'backbone': self.build_backbone(model['backbone']['type'], **kwargs)}

    def features(self, model: nn.Module) -> nn.Module:
        """What computes, in the downstream model, the feature maps of the pretrained backbone; as
        far as it does."""
        return model.backbone

    def apply_recipe(self, cfg: Config, recipe: Recipe) -> list[str]:
        """Change a downstream config so that pretrained weights work in it; return one line for
        each change that was made."""
        raise UsageError(f'target {self.name!r} cannot fine-tune')

    def predictor(self, cfg: Config, state: State) -> Callable[[np.ndarray], Prediction]:
        """Build the model of a fine-tuning config with the weights ``state``; return what maps an
        image (H, W, 3) uint8 RGB to its prediction.

        Raises:
            UsageError: the weights do not fit the model.
        """
        raise UsageError(f'target {self.name!r} cannot predict')

    def is_score(self, name: str, value: Any) -> bool:
        """Whether an evaluation's figure says something: one that had nothing to score, because no
        image holds what it is about, is NaN or what the library puts in its place."""
        return math.isfinite(float(value))

    def main_scores(self, metrics: dict[str, Any]) -> dict[str, float]:
        """The headline figures among an evaluation's ``metrics``, by the name people use."""
        return {name: float(value) for name, value in metrics.items()}
