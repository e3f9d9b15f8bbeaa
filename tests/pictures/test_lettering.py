"""Words on pictures: any script is drawn, or spelt out where the font lacks it."""
import subprocess
import sys

import numpy as np
import pytest

from densessl.pictures.lettering import legible, text_size, write

DRAWN = ['ball', 'Größe λ', 'Привет', 'اسم', 'e\u0301', '½ × 3', '']


@pytest.mark.parametrize('text', DRAWN)
def test_what_the_font_has_stays_as_it_is(text):
    assert legible(text) == text


@pytest.mark.parametrize('text, shown', [
    ('道路', r'\u9053\u8def'), ('한 dog', r'\ud55c dog'), ('a\nb\t', r'a\nb\t'),
    ('\udc80.jpg', r'\udc80.jpg'), ('\U0001faa8', r'\U0001faa8'), ('\x1b[31m', r'\x1b[31m')])
def test_what_the_font_lacks_is_spelt_out(text, shown):
    assert legible(text) == shown


@pytest.mark.parametrize('text', [*DRAWN[:-1], '道路', 'a\nb', '\udc80', '\U0001faa8'])
def test_any_text_leaves_ink_within_its_size(text):
    picture = np.full((60, 400, 3), 255, np.uint8)
    width, height = text_size(text, 14)
    write(picture, text, 20, 10, (0, 0, 0), 14)
    rows, columns = np.nonzero((picture < 128).any(2))
    assert len(rows) and rows.min() >= 10 and rows.max() < 10 + height
    assert columns.min() >= 19 and columns.max() <= 20 + width
    write(picture, text, -3, -2, (0, 0, 0), 14)
    write(picture, text, 398, 58, (0, 0, 0), 14)
    write(picture, text, 500, 90, (0, 0, 0), 14)       # outside: nothing, and no error


def test_lettering_does_not_wait_for_matplotlib():
    code = ('import sys; from densessl.pictures import figures, lettering; '
            'lettering.text_size("道", 14); sys.exit("matplotlib" in sys.modules)')
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
