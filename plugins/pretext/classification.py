"""What the tasks with a class as their answer have in common."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def class_loss(logits: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Cross-entropy, and the share of right answers, which is logged.

    Args:
        logits: (N, classes); target: (N,) integer classes.
    """
    with torch.no_grad():
        accuracy = (logits.argmax(1) == target).float().mean()
    return {'loss': F.cross_entropy(logits.float(), target), 'accuracy': accuracy}
