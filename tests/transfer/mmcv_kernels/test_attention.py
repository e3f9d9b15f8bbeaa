import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)
from torch.autograd import gradcheck

SHAPES = torch.tensor([[4, 5], [2, 3], [1, 1]])
STARTS = torch.tensor([0, 20, 26])


def operands(queries=6, batch=2, dtype=torch.float64):
    """value, sampling locations (some outside of [0, 1]), attention weights: 3 heads, 2 points."""
    value = torch.randn(batch, 27, 3, 4, dtype=dtype)
    locations = 1.4 * torch.rand(batch, queries, 3, 3, 2, 2, dtype=dtype) - 0.2
    weights = torch.rand(batch, queries, 3, 3, 2, dtype=dtype)
    return [leaf.requires_grad_() for leaf in (value, locations, weights)]


def attend(value, locations, weights):
    return MultiScaleDeformableAttnFunction.apply(value, SHAPES, STARTS, locations, weights, 64)


def test_attention_and_its_gradients_match_mmcv_in_pytorch():
    leaves = value, locations, weights = operands()
    expected = multi_scale_deformable_attn_pytorch(value, SHAPES, locations, weights)
    output = attend(*leaves)
    torch.testing.assert_close(output, expected)
    assert output.is_contiguous()
    grad = torch.randn_like(output).mT.contiguous().mT  # strided
    computed, expected = (torch.autograd.grad(out, leaves, grad) for out in (output, expected))
    for pair in zip(computed, expected, strict=True):
        torch.testing.assert_close(*pair)


def test_attention_passes_gradcheck():
    assert gradcheck(attend, operands(queries=2, batch=1))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_attention_rounds_half_precision_once(dtype):
    # As under autocast: values in half, locations and weights single.
    value, locations, weights = (leaf.detach().float() for leaf in operands())
    value, weights = value.to(dtype).requires_grad_(), weights.requires_grad_()
    output = attend(value, locations, weights)
    rounded = [operand.detach().to(dtype).float() for operand in (value, locations, weights)]
    assert torch.equal(output, attend(*rounded).to(dtype))
    output.sum().backward()
    assert value.grad.dtype == dtype and weights.grad.dtype == torch.float32


def test_attention_without_queries():
    leaves = operands(queries=0)
    output = attend(*leaves)
    assert output.shape == (2, 0, 12)
    output.sum().backward()
    assert not leaves[0].grad.any()
