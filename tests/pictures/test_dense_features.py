"""Pictures of dense features, against closed forms and references."""
from __future__ import annotations

import numpy as np

from densessl.pictures import dense_features as dense


def random_features(*shape, seed=0):
    return dense.unit(np.random.default_rng(seed).normal(size=shape))


def test_unit_vectors_and_what_has_no_direction():
    features = np.array([[3.0, 4.0], [0.0, 0.0], [np.inf, 1.0]])
    np.testing.assert_allclose(dense.unit(features), [[0.6, 0.8], [0, 0], [0, 1]])


def test_the_basis_holds_the_principal_components_of_all_steps():
    rng = np.random.default_rng(0)
    scale = np.array([9, 6, 4, 1, 1, 1, 1, 1, 1, 1.0])
    steps = [rng.normal(size=(2, 5, 5, 10)) * scale + rng.normal(size=10) for _ in range(3)]
    basis, full = dense.color_basis(steps)
    rows = np.concatenate([(one - one.mean((0, 1, 2))).reshape(-1, 10) for one in steps])
    reference = np.linalg.svd(rows, full_matrices=False)[2][:3].T
    np.testing.assert_allclose(np.abs((basis * reference).sum(0)), 1, atol=1e-4)
    np.testing.assert_allclose(full, np.percentile(np.abs(rows @ basis), 98, axis=0), rtol=1e-5)


def test_one_basis_gives_like_features_the_same_color_at_every_step():
    one = random_features(1, 4, 4, 16)
    basis = dense.color_basis([one, random_features(1, 4, 4, 16, seed=1)])
    again = dense.color_basis([one, random_features(1, 4, 4, 16, seed=1)])
    np.testing.assert_array_equal(basis[0], again[0])
    np.testing.assert_array_equal(dense.as_colors(one, basis), dense.as_colors(one, again))


def test_collapsed_features_are_gray_beside_those_that_differ():
    alive, collapsed = random_features(1, 4, 4, 16), np.full((1, 4, 4, 16), 0.25, np.float32)
    basis = dense.color_basis([alive, collapsed])
    assert np.ptp(dense.as_colors(alive, basis)) > 200
    assert set(np.unique(dense.as_colors(collapsed, basis))) <= {127, 128}
    only = dense.color_basis([collapsed])
    assert set(np.unique(dense.as_colors(collapsed, only))) <= {127, 128}


def test_fewer_channels_than_colors():
    features = random_features(1, 3, 3, 2)
    basis = dense.color_basis([features])
    assert basis[0].shape == (2, 3)
    assert dense.as_colors(features, basis).shape == (1, 3, 3, 3)


def test_k_means_finds_separate_groups():
    truth = np.arange(32).reshape(2, 4, 4) % 3
    noise = np.random.default_rng(0).normal(size=(2, 4, 4, 6)) * 0.01
    labels = dense.k_means(dense.unit(np.eye(6)[truth] + noise), 3)
    pairs = {(a, b) for a, b in zip(truth.ravel(), labels.ravel(), strict=True)}
    assert len(pairs) == len(set(labels.ravel())) == 3


def test_regions_keep_their_numbers():
    before = np.array([[0, 0, 1], [1, 2, 2]])
    labels = np.array([[2, 2, 0], [0, 1, 0]])       # the same groups but for one cell
    np.testing.assert_array_equal(dense.renumbered(labels, before, 3), [[0, 0, 1], [1, 2, 1]])
    np.testing.assert_array_equal(dense.renumbered(labels, None, 3), labels)


def test_similarity_is_the_cosine_with_the_cell():
    features = random_features(2, 3, 4, 5)
    found = dense.similarity(features, 1, 2)
    assert found.shape == (2, 3, 4)
    np.testing.assert_allclose(found[:, 1, 2], 1, rtol=1e-6)
    np.testing.assert_allclose(found[1, 0, 3], features[1, 0, 3] @ features[1, 1, 2], rtol=1e-5)


def test_heat_rises_from_dark_to_bright_and_stays_within_its_ends():
    shown = dense.heat(np.array([[-1.0, 0.0, 0.5, 1.0, 2.0]]))
    light = shown.astype(int).sum(-1)[0]
    assert light[0] == light[1] < light[2] < light[3] == light[4]


def test_cells_are_squares_of_whole_pixels():
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = dense.cells(picture, 9)
    assert large.shape == (8, 8, 3)
    np.testing.assert_array_equal(large[::4, ::4], picture)
