"""Memory and time of the DetCon loss: the released formulation against the blockwise one.

    python benchmarks/detcon_loss.py [--images 128] [--gathered 4096] [--runs 3]

One process's share of the published batch: 128 images × 16 regions of 256 numbers against the
4096 × 16 gathered regions of both views. Each form runs forward and backward in a process of its
own, the two in turn; peak memory is what the process grew by.
"""
from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

REGIONS, WIDTH, TEMPERATURE = 16, 256, 0.1


def released(p1, p2, z1, z2, ids1, ids2):
    """The formulation of google-deepmind/detcon ``utils/losses.py``: one-hot labels over all
    candidates, one concatenated matrix of logits, a cross-entropy over it."""
    import torch
    import torch.nn.functional as F
    p1, p2, z1, z2 = (F.normalize(x, dim=-1) for x in (p1, p2, z1, z2))
    batch, gathered = len(p1), len(z1)
    image = F.one_hot(torch.arange(batch, device=p1.device), gathered).float()     # (b, N)
    image = image[:, None, :, None]                                                # (b, 1, N, 1)

    def order(q, own, other, ids, ids_other):
        same_aa = (ids[:, :, None] == ids[:, None, :]).float()[:, :, None]         # (b, R, 1, R)
        same_ab = (ids[:, :, None] == ids_other[:, None, :]).float()[:, :, None]
        logits_aa = torch.einsum('abk,uvk->abuv', q, own) / TEMPERATURE
        logits_ab = torch.einsum('abk,uvk->abuv', q, other) / TEMPERATURE
        logits_aa = logits_aa - 1e9 * image * same_aa
        labels = torch.cat([image * same_ab, torch.zeros_like(logits_aa)], 2).flatten(2)
        logits = torch.cat([logits_ab, logits_aa], 2).flatten(2)
        positives = labels.sum(-1, keepdim=True)
        labels = labels / positives.clamp(min=1)
        weight = (positives[..., 0] > 1e-3).float() / same_aa.sum((2, 3))
        return (-weight * (labels * logits.log_softmax(-1)).sum(-1)).mean()
    return order(p1, z1, z2, ids1, ids2) + order(p2, z2, z1, ids2, ids1)


def blockwise(p1, p2, z1, z2, ids1, ids2):
    """Ours, given what a process has after gathering."""
    from densessl_plugins.detcon.loss import detcon_nce
    return detcon_nce(p1, p2, z1, z2, ids1, ids2, TEMPERATURE)


def measure(form: str, images: int, gathered: int) -> dict[str, float]:
    """Run one form in this process."""
    import torch
    g = torch.Generator().manual_seed(0)
    predictions = [torch.randn(images, REGIONS, WIDTH, generator=g).requires_grad_()
                   for _ in range(2)]
    targets = [torch.randn(gathered, REGIONS, WIDTH, generator=g) for _ in range(2)]
    ids = [torch.randint(0, 8, (images, REGIONS), generator=g) for _ in range(2)]
    function = {'released': released, 'blockwise': blockwise}[form]
    function(*(p[:2] for p in predictions), *(z[:2] for z in targets), *(i[:2] for i in ids))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    loss = function(*predictions, *targets, *ids)
    loss.backward()
    return {'seconds': time.perf_counter() - start, 'loss': loss.item(),
            'gradient': predictions[0].grad.double().square().sum().sqrt().item(),
            'mib': (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=128, help='of one process')
    parser.add_argument('--gathered', type=int, default=4096, help='of all processes')
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--form', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.form:
        print(json.dumps(measure(args.form, args.images, args.gathered)))
        return
    rows: dict[str, list[dict[str, float]]] = {'released': [], 'blockwise': []}
    for _ in range(args.runs):
        for form, results in rows.items():
            command = [sys.executable, __file__, '--form', form, '--images', str(args.images),
                       '--gathered', str(args.gathered)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results.append(json.loads(done.stdout))
    print(f'DetCon loss, {args.images} × {REGIONS} anchors a view against {args.gathered} × '
          f'{REGIONS} regions of two views, float32, medians of {args.runs}')
    median = {form: {key: statistics.median(r[key] for r in results) for key in results[0]}
              for form, results in rows.items()}
    for form, m in median.items():
        print(f'{form:>10}: {m["mib"]:8.0f} MiB peak extra, {m["seconds"]:7.2f} s, '
              f'loss {m["loss"]:.6f}, gradient norm {m["gradient"]:.6e}')
    one, two = median['released'], median['blockwise']
    print(f'     ratio: {two["mib"] / one["mib"]:.3f} of the memory, '
          f'{two["seconds"] / one["seconds"]:.2f} of the time')


if __name__ == '__main__':
    main()
