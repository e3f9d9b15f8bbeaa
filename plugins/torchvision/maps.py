"""torchvision classification models that return their feature maps under their own keys."""
from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer
from torchvision.models.shufflenetv2 import ShuffleNetV2

from densessl.errors import UsageError

FINEST_STRIDE = 4   # dense heads read strides 4 to 32; half-size stem maps are not for them
PROBE = 64          # pixels; enough to tell strides up to 32 apart
RESNET_LAYERS = ('layer1', 'layer2', 'layer3', 'layer4')


class StageMaps(nn.Module):
    """The feature part of a model that is a chain of modules, run link by link.

    Returns the last map of each resolution from stride 4 on, before the next link shrinks it.
    The modules keep their paths in the model, hence their keys; the classifier is left behind.
    """

    def __init__(self, model: nn.Module, links: list[str]) -> None:
        super().__init__()
        for name in dict.fromkeys(link.partition('.')[0] for link in links):
            self.add_module(name, getattr(model, name))
        self.links = links
        # Swin's maps are (B, H, W, C), and its classifier's norm belongs to the last of them.
        self.channels_last = isinstance(model, SwinTransformer)
        if self.channels_last:
            self.norm = model.norm
        layers = [link for link in links if link in RESNET_LAYERS]   # four, also when dilated
        self.taps = layers or self._find_taps()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for link in self.links:
            x = self.get_submodule(link)(x)
            if link in self.taps:
                last = self.channels_last and link == self.links[-1]
                maps.append(self._channels_first(self.norm(x) if last else x))
        return tuple(maps)

    def _channels_first(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2).contiguous() if self.channels_last else x

    @torch.no_grad()
    def _find_taps(self) -> list[str]:
        """The last link at each width, found by a dry run (evaluation mode: BN is untouched)."""
        training, x, last = self.training, torch.zeros(1, 3, PROBE, PROBE), {}
        self.eval()
        for link in self.links:
            x = self.get_submodule(link)(x)
            last[self._channels_first(x).shape[-1]] = link
        self.train(training)
        return [link for width, link in last.items() if round(PROBE / width) >= FINEST_STRIDE]


class ViTMaps(nn.Module):
    """A Vision Transformer whose patch tokens are laid out as one map (B, C, H/p, W/p).

    Other sizes than the one it was made for get bicubically interpolated position embeddings, as
    torchvision's ``interpolate_embeddings`` does for whole checkpoints.
    """

    def __init__(self, model: VisionTransformer) -> None:
        super().__init__()
        self.conv_proj, self.encoder = model.conv_proj, model.encoder
        self.class_token = model.class_token
        self.grid = model.image_size // model.patch_size

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        patches = self.conv_proj(x)                                       # (B, C, h, w)
        batch, channels, h, w = patches.shape
        tokens = patches.flatten(2).transpose(1, 2)                       # (B, h·w, C)
        tokens = torch.cat([self.class_token.expand(batch, -1, -1), tokens], dim=1)
        tokens = self.encoder.dropout(tokens + self._positions(h, w))
        tokens = self.encoder.ln(self.encoder.layers(tokens))[:, 1:]      # without the class token
        return (tokens.transpose(1, 2).reshape(batch, channels, h, w),)

    def _positions(self, h: int, w: int) -> Tensor:
        positions = self.encoder.pos_embedding                            # (1, 1 + grid², C)
        if (h, w) == (self.grid, self.grid):
            return positions
        token, grid = positions[:, :1], positions[:, 1:]
        grid = grid.transpose(1, 2).reshape(1, -1, self.grid, self.grid)
        grid = nn.functional.interpolate(grid, (h, w), mode='bicubic', align_corners=True)
        return torch.cat([token, grid.flatten(2).transpose(1, 2)], dim=1)


def links_of(model: nn.Module, name: str) -> Iterator[str]:
    """The paths of the feature modules that a model runs one after the other."""
    children = dict(model.named_children())
    if 'features' in children:                       # ConvNeXt, Swin, EfficientNet, VGG …
        yield from (f'features.{child}' for child, _ in model.features.named_children())
    elif 'trunk_output' in children:                 # RegNet
        yield 'stem'
        yield from (f'trunk_output.{child}' for child, _ in model.trunk_output.named_children())
    elif 'layer4' in children or isinstance(model, ShuffleNetV2):          # ResNet family
        yield from (child for child in children if child not in ('avgpool', 'fc'))
    elif 'layers' in children:                       # MNASNet
        yield from (f'layers.{child}' for child, _ in model.layers.named_children())
    else:
        raise UsageError(f'torchvision.{name} is not a chain of feature modules, so it has no '
                         f'feature maps; use a ResNet, ConvNeXt, Swin, ViT, RegNet, EfficientNet '
                         f'or the like')
