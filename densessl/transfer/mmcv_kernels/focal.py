"""Focal losses (arXiv 1708.02002) and their gradients, in closed form.

target (N,) are class labels; ``weight`` (C,) weighs the rows by their label, or is empty.
"""
from __future__ import annotations

import torch
from torch import Tensor

from densessl.transfer.mmcv_kernels import full_precision

FLT_MIN = torch.finfo(torch.float32).tiny  # mmcv's bound below every logarithm


def sigmoid_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor, output: Tensor,
                               gamma: float, alpha: float) -> None:
    """Write -α (1-p)^γ log p, or -(1-α) p^γ log(1-p), of the logits (N, C) to ``output`` (N, C)."""
    p, is_target = _probabilities(input, target)
    positive = -alpha * (1 - p)**gamma * _log(p)
    negative = -(1 - alpha) * p**gamma * _log(1 - p)
    output.copy_(torch.where(is_target, positive, negative) * _row_weight(weight, target)[:, None])


def sigmoid_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor,
                                gamma: float, alpha: float) -> None:
    """Write the gradient of every loss with respect to its logit to ``grad_input`` (N, C)."""
    p, is_target = _probabilities(input, target)
    positive = -alpha * (1 - p)**gamma * (1 - p - gamma * p * _log(p))
    negative = -(1 - alpha) * p**gamma * (gamma * (1 - p) * _log(1 - p) - p)
    grad = torch.where(is_target, positive, negative)
    grad_input.copy_(grad * _row_weight(weight, target)[:, None])


def softmax_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor, output: Tensor,
                               gamma: float, alpha: float) -> None:
    """Write -α (1-p)^γ log p to ``output`` (N,), p the target's entry of the softmax (N, C).

    A negative target is ignored: loss and gradient are 0.
    """
    softmax, = full_precision(input)
    p = _target_entry(softmax, target)
    loss = -alpha * (1 - p)**gamma * _log(p)
    output.copy_(torch.where(target >= 0, loss * _row_weight(weight, target), 0.0))


def softmax_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor, buff: Tensor,
                                grad_input: Tensor, gamma: float, alpha: float) -> None:
    """Write the gradient with respect to the logits to ``grad_input`` (N, C).

    ``input`` is their softmax; ``buff`` (N,) receives the gradient times p of the target.
    """
    softmax, = full_precision(input)
    p = _target_entry(softmax, target)
    q = (1 - p).clamp(min=FLT_MIN)  # keeps 0^(γ-1) finite; its factor log p is 0 there
    slope = alpha * (gamma * q**(gamma - 1) * p * _log(p) - (1 - p)**gamma)
    slope = torch.where(target >= 0, slope * _row_weight(weight, target), 0.0)
    buff.copy_(slope)
    grad_input.copy_(slope[:, None] * (_one_hot(target, softmax.shape[1]).to(slope) - softmax))


def _probabilities(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The sigmoid (N, C), and which of its entries belong to the target."""
    logits, = full_precision(logits)
    return logits.sigmoid(), _one_hot(target, logits.shape[1])


def _one_hot(target: Tensor, classes: int) -> Tensor:
    """(N, C) bool; all false for a label outside 0..C-1, which stands for background."""
    return target[:, None] == torch.arange(classes, device=target.device)


def _target_entry(softmax: Tensor, target: Tensor) -> Tensor:
    return softmax.gather(1, target.clamp(min=0)[:, None]).squeeze(1)


def _row_weight(weight: Tensor, target: Tensor) -> Tensor:
    """The weight (N,) of every row's class; 1 for background, where mmcv reads past the end."""
    if not weight.numel():
        return torch.ones(len(target), device=target.device)
    known = (target >= 0) & (target < len(weight))
    return torch.where(known, weight[target.clamp(0, len(weight) - 1)], 1.0)


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=FLT_MIN).log()
