"""Weighted k-nearest-neighbor classification of frozen features (Wu et al. 2018, section 3.4)."""
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

NEIGHBORS, TEMPERATURE = 200, 0.07      # Wu et al.'s k and τ
CHUNK = 256                             # queries at a time: similarities are (CHUNK, N)


def knn_classify(features: Tensor, labels: Tensor, queries: Tensor, *, classes: int,
                 neighbors: int = NEIGHBORS, temperature: float = TEMPERATURE) -> Tensor:
    """Classify each query by a vote of its nearest training features by cosine similarity s, each
    weighing exp(s / τ).

    Args:
        features: (N, C) of the training images. labels: (N,) their classes.
        queries: (M, C). neighbors: k; all N if there are fewer.

    Returns:
        (M,) classes; a tie goes to the lowest.
    """
    bank, queries = normalize(features, dim=1), normalize(queries, dim=1)
    votes = one_hot(labels, classes).to(bank.dtype)                         # (N, classes)
    k, found = min(neighbors, len(bank)), []
    for chunk in queries.split(CHUNK):
        similarity, nearest = (chunk @ bank.T).topk(k, dim=1)               # (m, k)
        weights = ((similarity - similarity[:, :1]) / temperature).exp()    # the same argmax, and
        found.append((weights[..., None] * votes[nearest]).sum(1).argmax(1))    # no overflow
    return torch.cat(found)
