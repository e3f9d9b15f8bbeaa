"""Predictions drawn onto an image: what is colored, what stays as it is, what the legend names."""
import numpy as np
import pytest

from densessl.finetune.draw_prediction import draw, legend
from densessl.pictures.figures import region_color
from densessl.transfer.prediction import VOID, Instances, Prediction

IMAGE = np.full((640, 640, 3), 128, np.uint8)       # so large that it is not enlarged
CLASSES = ['sky', 'tree', 'car']
PALETTE = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]


def objects(*scores):
    boxes = np.array([[100 * i, 10, 100 * i + 80, 90] for i in range(len(scores))], float)
    masks = np.zeros((len(scores), 640, 640), bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
        mask[top:bottom, left:right] = True
    return Instances(boxes, np.array(scores), np.arange(len(scores)), masks)


def test_pixels_without_a_class_stay_as_they_are():
    labels = np.zeros((640, 640), int)
    labels[:320], labels[320:400] = 3, VOID          # 3: beyond the classes, as fusion heads say it
    picture = draw(IMAGE, Prediction(labels), CLASSES, PALETTE)
    assert (picture[:400] == IMAGE[:400]).all()
    red, green, blue = picture[400:640].reshape(-1, 3).mean(0)
    assert red > 2 * max(green, blue)


@pytest.mark.parametrize(('palette', 'color'), [
    (PALETTE, PALETTE[1]),
    (PALETTE[:2], region_color(1)),
    ([*PALETTE, (9, 9, 9)], region_color(1)),        # of a library's own, more classes
])
def test_colors_are_those_of_the_classes(palette, color):
    labels = np.ones((640, 640), int)
    picture = draw(IMAGE, Prediction(labels), CLASSES, palette)
    chips = picture[640:].reshape(-1, 3)
    assert (chips == color).all(1).any()
    assert not any((chips == other).all(1).any() for other in PALETTE if other != color)


def test_objects_below_the_score_are_left_out():
    found = Prediction(instances=objects(0.9, 0.5, 0.1))
    picture = draw(IMAGE, found, CLASSES, PALETTE, score=0.5)
    assert (picture[40, 40] != 128).any() and (picture[40, 140] != 128).any()
    assert (picture[95:640] == 128).all() and (picture[40, 240] == 128).all()
    chips = picture[640:].reshape(-1, 3)
    drawn = [(chips == color).all(1).any() for color in PALETTE]
    assert drawn == [True, True, False]


def test_a_small_image_is_enlarged_with_what_is_on_it():
    found = Instances(np.array([[2., 4, 10, 12]]), np.array([1.]), np.array([2]),
                      np.zeros((0, 1, 1), bool))     # a detector without masks
    picture = draw(np.full((32, 32, 3), 128, np.uint8), Prediction(instances=found), CLASSES)
    assert picture.shape[1] == 640 and picture.shape[0] > 640
    assert tuple(picture[12 * 20, 6 * 20]) == region_color(2)       # the lower edge of the box
    assert (picture[8 * 20, 6 * 20] == 128).all()                   # nothing inside


def test_the_legend_wraps_and_is_never_empty():
    entries = [(f'a class of number {i}', (i, i, i)) for i in range(10)]
    one_line = legend([], 300).shape[0]
    assert legend(entries, 300).shape[0] > legend(entries, 2000).shape[0] == one_line
    assert (legend([], 300) < 128).any()
