"""k-NN against a loop written from the paper, logistic regression against its optimality."""
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from densessl.features.classifiers import choose_decay, fit_linear, standardization
from densessl.features.knn import knn_classify


def naive_knn(features, labels, queries, classes, neighbors, temperature):
    """Wu et al. 2018, section 3.4, one query and one neighbor at a time."""
    def unit(vector):
        length = math.sqrt(sum(value * value for value in vector))
        return [value / length for value in vector]

    bank, found = [unit(row) for row in features.tolist()], []
    for query in map(unit, queries.tolist()):
        similarity = [sum(a * b for a, b in zip(query, row, strict=True)) for row in bank]
        nearest = sorted(range(len(bank)), key=lambda i: -similarity[i])[:neighbors]
        votes = [0.0] * classes
        for i in nearest:
            votes[labels[i]] += math.exp(similarity[i] / temperature)
        found.append(votes.index(max(votes)))
    return found


@pytest.mark.parametrize(('neighbors', 'temperature'), [(1, 0.07), (7, 0.07), (7, 1.0), (500, 0.5)])
def test_knn_against_a_naive_loop(neighbors, temperature):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(120, 6, generator=generator, dtype=torch.float64)
    queries = torch.randn(300, 6, generator=generator, dtype=torch.float64)   # more than a chunk
    labels = torch.randint(0, 4, (120,), generator=generator)
    found = knn_classify(features, labels, queries, classes=4, neighbors=neighbors,
                         temperature=temperature)
    assert found.tolist() == naive_knn(features, labels.tolist(), queries, 4, neighbors,
                                       temperature)


def test_knn_sees_directions_only_and_weighs_near_neighbors_more():
    features = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8]])
    labels, query = torch.tensor([0, 1, 1]), torch.tensor([[1000.0, 1.0]])
    assert knn_classify(features, labels, query, classes=2, neighbors=3).tolist() == [0]
    # a high temperature makes it a plain majority
    assert knn_classify(features, labels, query, classes=2, neighbors=3,
                        temperature=100.0).tolist() == [1]


def separable(images=60, classes=3, channels=8):
    """Classes a distance of 10 apart, with scales of channels far from each other."""
    rng = np.random.default_rng(0)
    labels = np.arange(images) % classes
    features = rng.normal(size=(images, channels)) + 10 * np.eye(channels)[labels]
    return (torch.tensor(features * np.logspace(-3, 3, channels), dtype=torch.float32),
            torch.tensor(labels))


def test_a_separable_set_is_separated():
    features, labels = separable()
    classifier = fit_linear(features[:30], labels[:30], classes=3, decay=1e-4)
    assert (classifier(features[30:]).argmax(1) == labels[30:]).all()


def test_the_solution_is_the_minimum_of_the_objective():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(80, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (80,), generator=generator)
    decay = 0.01
    found = fit_linear(features, labels, classes=3, decay=decay)
    weight, bias = found.weight.requires_grad_(), found.bias.requires_grad_()
    inputs = (features - found.mean) / found.std

    def objective(weight, bias):
        return cross_entropy(inputs @ weight + bias, labels) + decay / 2 * weight.square().sum()

    loss = objective(weight, bias)
    loss.backward()
    assert weight.grad.abs().max() < 1e-5 and bias.grad.abs().max() < 1e-5
    for _ in range(5):      # convex: anywhere else is higher
        step = 0.1 * torch.randn(5, 3, generator=generator, dtype=torch.float64)
        assert objective(weight + step, bias) > loss


def test_channels_without_variation_do_no_harm():
    features, _ = separable()
    features = torch.cat([features, torch.full((60, 2), 7.0)], dim=1)
    mean, std = standardization(features)
    assert std[-2:].tolist() == [1, 1] and torch.isfinite((features - mean) / std).all()


def test_noise_is_met_with_a_strong_decay_and_a_clear_signal_with_any():
    generator = torch.Generator().manual_seed(0)
    held_out = torch.arange(300) % 3 == 0
    labels = torch.randint(0, 2, (300,), generator=generator)
    noise = torch.randn(300, 100, generator=generator)
    weak = noise.clone()
    weak[:, 0] += 2.0 * (2 * labels - 1)
    assert choose_decay(weak, labels, held_out, classes=2, decays=(0.3, 1e-6)) == 0.3
    strong = noise[:, :2] + 20.0 * labels[:, None]
    # both are right about every image: of equals the strongest
    assert choose_decay(strong, labels, held_out, classes=2, decays=(0.3, 1e-6)) == 0.3
