"""The report of what is used of labelled data: its numbers, its words, and when it refuses."""
import pytest

from densessl.errors import UsageError
from densessl.labels.data_report import DataReport, Finding, named_files


def test_the_difference_is_said_with_reasons_and_the_first_files():
    report = DataReport('train', 'a.json', 6, 5, 16, 5, (
        Finding('lie outside their image', ('x/a.jpg', 'x/a.jpg', 'x/b.jpg', 'c', 'd', 'e', 'f',
                                            'g')),
        Finding('have no area', ('x/a.jpg', 'b', 'c')),
        Finding('are too small', ('x/z.jpg',), unit='images'),
        Finding('reach out of their image', ('x/a.jpg',), 'mended'),
        Finding('are crowds', ('x/a.jpg', 'b'), 'expected')))
    assert report.lines() == [
        'train: 5 of 6 images and 5 of 16 objects of a.json are used',
        'train: 11 of 16 objects cannot be used: 8 lie outside their image (a.jpg, b.jpg, c, …), '
        '3 have no area (a.jpg, b, c)',
        'train: 1 of 6 images cannot be used: 1 is too small (z.jpg)',
        'train: 1 object reaches out of their image (a.jpg)',
        'train: 2 objects are crowds (a.jpg, b)']
    report.require_usable()


def test_each_file_can_be_said_alone():
    assert list(Finding('lie outside their image', ('a', 'b', 'a')).by_file()) == [
        ('a', ': 2 objects lie outside their image'), ('b', ': 1 object lies outside their image')]
    assert list(Finding('have no image', ('a.png', 'b.png'), unit='label maps').by_file()) == [
        ('a.png', ' has no image'), ('b.png', ' has no image')]


@pytest.mark.parametrize(('numbers', 'word'), [((3, 0, 5, 0), 'no image'), ((3, 3, 5, 0),
                                                                              'no object')])
def test_nothing_left_is_refused_with_the_reasons(numbers, word):
    report = DataReport('val', 'a.json', *numbers, (
        Finding('lie outside their image', ('a.jpg',) * 5), Finding('are spelt', ('b',), 'mended')))
    with pytest.raises(UsageError, match=f'a.json holds {word} that can be used for val: 5 objects '
                                         f'lie outside their image \\(a.jpg\\)$'):
        report.require_usable()


def test_label_maps_have_no_objects():
    report = DataReport('train', 'labels', 3, 2)
    report.require_usable()
    assert report.lines() == ['train: 2 of 3 images of labels are used']


def test_a_file_is_named_once():
    assert named_files(['x/a', 'y/b', 'x/a']) == 'a, b'
