"""How well a recipe's regions fit what people outlined."""
from __future__ import annotations

import cv2
import numpy as np
import pytest

from densessl.cli import main
from densessl.errors import UsageError
from densessl.study.cells import Place
from densessl.study.mask_quality import MaskQuality
from densessl.study.plan import Weights
from densessl.study.recipe import Recipe


def test_halves_are_right_in_half_of_an_image_of_quarters(tmp_path):
    for folder in ('images/val', 'labels/val'):
        (tmp_path / 'outlined' / folder).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / 'outlined' / 'images/val/a.png'), np.zeros((40, 40, 3), np.uint8))
    quarters = np.kron([[0, 1], [2, 3]], np.ones((20, 20))).astype(np.uint8)
    cell = MaskQuality('masks', digest='x', data='outlined', recipe=Recipe(Weights(
        'own', config='small/detcon_s_r18', masks={'type': 'grid', 'rows': 1, 'cols': 2})))
    place = Place(tmp_path / 'out', {'outlined': tmp_path / 'outlined'}, {})
    assert main(cell.command(place, [])) == 0
    with pytest.raises(UsageError, match=r'has no a_0\.png: what people outlined'):
        cell.outcome(place, [{}])
    for person, truth in enumerate((quarters, quarters % 2)):       # the second outlined halves
        cv2.imwrite(str(tmp_path / 'outlined' / f'labels/val/a_{person}.png'), truth)
    found = cell.outcome(place, [{}])
    assert found['asa'] == pytest.approx(75.0) and found['images'] == 1     # 50 and 100
