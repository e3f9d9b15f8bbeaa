"""Every op of mmcv that the bridge supplies, as ``mmcv.ops`` calls it, on small operands."""
import torch
from mmcv import ops
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction


def boxes(n=50):
    corner = 20 * torch.rand(n, 2)
    return torch.cat((corner, corner + 20 * torch.rand(n, 2)), dim=1)


def rois(n=20):
    return torch.cat((torch.randint(2, (n, 1)), 2 * boxes(n) - 10), dim=1)


def deform(*, modulated):
    """input, offset, (mask), weight, (bias) for groups=2, deform_groups=2, a kernel of 3 × 3."""
    input, offset = torch.randn(2, 4, 8, 9), torch.randn(2, 36, 8, 9)
    weight = torch.randn(6, 2, 3, 3)
    if not modulated:
        return input, offset, weight
    return input, offset, torch.rand(2, 18, 8, 9), weight, torch.randn(6)


def attention():
    shapes = torch.tensor([[4, 5], [2, 3]])
    return (torch.randn(2, 26, 3, 4), shapes, torch.tensor([0, 20]),
            1.4 * torch.rand(2, 6, 3, 2, 2, 2) - 0.2, torch.rand(2, 6, 3, 2, 2))


CASES = {  # name: how mmcv.ops is called, operands
    **{f'nms-{offset}': (lambda b, s, o=offset: ops.nms(b, s, 0.3, o),
                         lambda: (boxes(), torch.rand(50))) for offset in (0, 1)},
    **{f'soft_nms-{method}-{offset}': (
        lambda b, s, m=method, o=offset: ops.soft_nms(b, s, 0.3, 0.5, 0.05, m, o),
        lambda: (boxes(), torch.rand(50)))
       for method in ('naive', 'linear', 'gaussian') for offset in (0, 1)},
    'nms_match': (lambda dets: tuple(ops.nms_match(dets, 0.3)),
                  lambda: (torch.cat((boxes(), torch.rand(50, 1)), dim=1),)),
    **{f'bbox_overlaps-{mode}-{aligned}-{offset}': (
        lambda a, b, m=mode, k=aligned, o=offset: ops.bbox_overlaps(a, b, m, k, o),
        lambda: (boxes(), boxes()))
       for mode in ('iou', 'iof') for aligned in (False, True) for offset in (0, 1)},
    **{f'roi_align-{mode}-{ratio}-{aligned}': (
        lambda x, r, m=mode, n=ratio, k=aligned: ops.roi_align(x, r, (3, 4), 0.4, n, m, k),
        lambda: (torch.randn(2, 3, 12, 13), rois()))
       for mode in ('avg', 'max') for ratio in (0, 2) for aligned in (False, True)},
    'roi_pool': (lambda x, r: ops.roi_pool(x, r, (3, 4), 0.4),
                 lambda: (torch.randn(2, 3, 12, 13), rois())),
    'deform_conv': (lambda *args: ops.deform_conv2d(*args, 1, 1, 1, 2, 2),
                    lambda: deform(modulated=False)),
    'modulated_deform_conv': (lambda *args: ops.modulated_deform_conv2d(*args, 1, 1, 1, 2, 2),
                              lambda: deform(modulated=True)),
    'deform_conv-zero': (lambda x, o, w: ops.deform_conv2d(x, 0 * o, w, 1, 1, 1, 2, 2),
                         lambda: deform(modulated=False)),
    'modulated_deform_conv-zero': (
        lambda x, o, *args: ops.modulated_deform_conv2d(x, 0 * o, *args, 1, 1, 1, 2, 2),
        lambda: deform(modulated=True)),
    'modulated_deform_conv-finer': (   # 8 × 9 offsets for an output of 4 × 5
        lambda *args: ops.modulated_deform_conv2d(*args, 2, 1, 1, 2, 2),
        lambda: deform(modulated=True)),
    'carafe': (lambda x, m: ops.carafe(x, m, 3, 2, 2),
               lambda: (torch.randn(2, 4, 5, 6), torch.rand(2, 18, 10, 12))),
    'deform_roi_pool': (lambda x, r, o: ops.deform_roi_pool(x, r.detach(), o, (3, 4), 0.4),
                        lambda: (torch.randn(2, 3, 12, 13), rois(), torch.randn(20, 2, 3, 4))),
    **{f'psa_mask-{kind}': (lambda x, k=kind: ops.PSAMask(k, (5, 3))(x),
                            lambda: (torch.randn(2, 15, 4, 6),))
       for kind in ('collect', 'distribute')},
    **{f'{kind}_focal_loss-{weighted}': (
        lambda x, t, w, loss=f'{kind}_focal_loss': getattr(ops, loss)(x, t, 1.5, 0.3, w, 'sum'),
        lambda w=weighted: (3 * torch.randn(20, 4), torch.randint(4, (20,)),
                            torch.rand(4) if w else None))
       for kind in ('sigmoid', 'softmax') for weighted in (False, True)},
    'ms_deform_attn': (lambda *args: MultiScaleDeformableAttnFunction.apply(*args, 2), attention),
}


def outputs_and_gradients(call, operands):
    """The outputs of ``call``, and the gradients of a weighted sum of them where there are any."""
    leaves = [operand.detach().clone().requires_grad_()
              if operand is not None and operand.is_floating_point() else operand
              for operand in operands]
    outputs = call(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    grads = []
    if len(outputs) == 1 and outputs[0].requires_grad:
        weights = torch.rand(outputs[0].shape, generator=torch.Generator().manual_seed(1))
        (outputs[0] * weights.to(outputs[0])).sum().backward()
        grads = [getattr(leaf, 'grad', None) for leaf in leaves]
    return [*outputs, *grads]
