"""Files whose end is missing, read as viewers show them."""
import io

import numpy as np
import pytest
from PIL import Image

from densessl.data.damaged import read_labelled, read_labelled_data
from densessl.data.decode import UnreadableImage, read_image


@pytest.fixture(scope='module')
def picture():
    """(96, 64, 3) without two rows alike, so that a row that is lost cannot look like another."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 8, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((64, 96), Image.BICUBIC))


def encoded(picture, kind, **options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(('kind', 'options'), [('JPEG', {'quality': 95}),
                                               ('JPEG', {'quality': 95, 'progressive': True}),
                                               ('PNG', {})])
def test_the_rows_that_are_there_are_those_of_the_whole_file(picture, kind, options, tmp_path):
    data = encoded(picture, kind, **options)
    whole, note = read_labelled_data('a', data)
    assert note is None and (whole == read_image_of(data, tmp_path)).all()
    cut = data[:-30]
    with pytest.raises(UnreadableImage):
        read_image_of(cut, tmp_path)         # which pretraining leaves out
    (tmp_path / 'cut').write_bytes(cut)
    shown, note = read_labelled(tmp_path / 'cut')
    assert shown.shape == whole.shape and 'end of the file is missing' in note
    if 'progressive' not in options:
        assert (shown[:76] == whole[:76]).all()
    assert np.abs(shown[:76].astype(int) - whole[:76]).mean() < 3


def read_image_of(data, folder):
    path = folder / 'whole'
    path.write_bytes(data)
    return read_image(path)


def test_a_turned_photo_is_turned_all_the_same(picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture, 'JPEG', exif=exif)
    whole, _ = read_labelled_data('a', data)
    assert whole.shape == (64, 96, 3)
    shown, _ = read_labelled_data('a', data[:-4])
    assert shown.shape == whole.shape and (shown == whole).mean() > 0.9


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_with_much_of_it_missing_it_is_not_what_was_labelled(picture, kind):
    data = encoded(picture, kind)
    with pytest.raises(UnreadableImage, match=r'a: the end of the file is missing, with \d+ of '
                                              r'its 96 rows'):
        read_labelled_data('a', data[:len(data) // 2])


def test_other_damage_keeps_its_reason(picture):
    with pytest.raises(UnreadableImage, match='not an image'):
        read_labelled_data('a', b'no image')
    data = bytearray(encoded(picture, 'PNG'))
    data[len(data) // 2] ^= 0xff                       # its checksum is wrong, its end is there
    with pytest.raises(UnreadableImage) as error:
        read_labelled_data('a', bytes(data))
    assert 'end of the file' not in str(error.value)
