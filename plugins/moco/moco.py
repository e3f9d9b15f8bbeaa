"""MoCo v1 and v2 (arXiv 1911.05722, 2003.04297): Algorithm 1 with shuffled BN."""
from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densessl.backbones import build_backbone, feature_stages
from densessl.bounds import Range, Share, Temperature, Width
from densessl.dist import gather, rank, world_size
from densessl.ema import copy_weights, ema_update, target_of
from densessl.errors import UsageError
from densessl.method import Method, View
from densessl.precision import full_precision


class MoCo(Method):
    """MoCo.

    Args:
        backbone: ``dict(type='TARGET.name', …)``.
        version: 1: head Linear; 2: head Linear → ReLU → Linear. (Views, τ and schedule are the
            config's.)
        projection: width of queries and keys.
        queue: number of keys kept, Q.
        temperature: τ: .07 (v1), .2 (v2).
        momentum: m of the key encoder.
        bn_groups: groups of the batch in which a process normalizes, as so many GPUs would:
            shuffling keys between groups is what hides the positive's statistics from the query.
    """

    name = 'moco'

    def __init__(self, backbone: dict[str, Any], version: Literal[1, 2] = 2,
                 projection: Width = 128, queue: Annotated[int, Range(1, 2 ** 24)] = 65536,
                 temperature: Temperature = 0.2, momentum: Share = 0.999,
                 bn_groups: Annotated[int, Range(1, 2 ** 16)] = 1) -> None:
        super().__init__()
        if version not in (1, 2):
            raise UsageError(f'moco version {version!r}: 1 or 2')
        if bn_groups < 1:
            raise UsageError(f'moco bn_groups {bn_groups}: at least 1')
        self.backbone = build_backbone(backbone)                            # f_q …
        channels = feature_stages(self.backbone)[-1].channels
        self.projector = (nn.Linear(channels, projection) if version == 1 else nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, projection)))
        self.target_backbone = target_of(self.backbone)                     # f_k …
        self.target_projector = target_of(self.projector)
        self.register_buffer('queue', F.normalize(torch.randn(queue, projection)))   # (Q, D)
        self.register_buffer('oldest', torch.zeros((), dtype=torch.long))
        self.temperature, self.momentum, self.bn_groups = temperature, momentum, bn_groups
        self.new_keys: list[Tensor] = []                                    # until the step's end

    def init_weights(self) -> None:
        super().init_weights()
        copy_weights(self.target_backbone, self.backbone)
        copy_weights(self.target_projector, self.projector)

    def loss(self, views: list[View]) -> dict[str, Tensor]:
        x_q, x_k = (view.image for view in views)
        q = self.encode(x_q, self.backbone, self.projector)                 # (B, D)
        with torch.no_grad():
            x_k, unshuffle = shuffle(x_k)
            k = gather(self.encode(x_k, self.target_backbone, self.target_projector))
            k = F.normalize(k[unshuffle], dim=1)                            # (N, D), all processes
        self.new_keys.append(k)
        keys = k[rank() * len(q):][:len(q)]
        self.show(q, keys, negatives=self.queue, trivial=lambda: math.log(len(self.queue) + 1))
        return {'loss': info_nce(q, keys, self.queue, self.temperature)}

    def encode(self, x: Tensor, backbone: nn.Module, projector: nn.Module) -> Tensor:
        """Encode, normalizing batch statistics within each of ``bn_groups`` groups."""
        if len(x) % self.bn_groups:
            raise UsageError(f'moco bn_groups {self.bn_groups} must divide the {len(x)} images '
                             f'of a process')
        return torch.cat([projector(backbone(group)[-1].mean((2, 3)))
                          for group in x.chunk(self.bn_groups)])

    def after_step(self, step: int, max_steps: int) -> None:
        """Move the key encoder (before the next keys, as Algorithm 1 does) and enqueue."""
        ema_update(self.target_backbone, self.backbone, self.momentum)
        ema_update(self.target_projector, self.projector, self.momentum)
        keys = torch.cat(self.new_keys)
        self.new_keys = []
        where = (self.oldest + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[where] = keys.to(self.queue.dtype)
        self.oldest.copy_((self.oldest + len(keys)) % len(self.queue))

    def negatives(self, global_batch: int) -> int:
        return len(self.queue)


def shuffle(x: Tensor) -> tuple[Tensor, Tensor]:
    """Exchange samples between processes at random, so that a key is normalized with others than
    its query was.

    The permutation is drawn from the global generator, which every process seeds alike from
    (seed, step).

    Returns:
        This process's samples after the exchange (B, …), and the index (N,) that undoes it.
    """
    everything = gather(x)                                                  # (N, …)
    order = torch.randperm(len(everything)).to(x.device, non_blocking=True)
    return everything[order.view(world_size(), -1)[rank()]], order.argsort()


@full_precision
def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """InfoNCE over a queue (Eq. 1): a (Q + 1)-way cross-entropy with the key as the class.

    Args:
        query, key: (B, D), normalized here; queue: (Q, D), normalized already.
        temperature: τ.

    Returns:
        Scalar, the mean over B.
    """
    q, k = F.normalize(query, dim=1), F.normalize(key, dim=1)
    positive = (q * k).sum(1, keepdim=True)                                 # (B, 1)
    negative = q @ queue.T                                                  # (B, Q)
    logits = torch.cat([positive, negative], 1) / temperature
    return F.cross_entropy(logits, logits.new_zeros(len(q), dtype=torch.long))
