"""Why a file cannot be read as an image here: what it is instead, and what to do about it."""
from __future__ import annotations

import struct

# How a file begins, where in it, what it is, and the remedy.
_KINDS = (
    (0, b'version https://git-lfs', 'a pointer of Git LFS, not the image', 'run "git lfs pull"'),
    (0, b'\xff\x0a', 'a JPEG XL image', ''), (0, b'\0\0\0\x0cJXL ', 'a JPEG XL image', ''),
    (0, b'8BPS', 'a Photoshop document', ''), (0, b'v/1\x01', 'an OpenEXR image', ''),
    (0, b'II\xbc', 'a JPEG XR image', ''), (0, b'FORM', 'an IFF image', ''),
    (0, b'%PDF', 'a PDF document', ''), (0, b'%!PS', 'a PostScript program', ''),
    (0, b'\x93NUMPY', 'a NumPy array', ''), (0, b'\x89HDF', 'an HDF5 file', ''),
    (0, b'CDF', 'a NetCDF file', ''), (0, b'SIMPLE  =', 'a FITS image', ''),
    (0, b'PK\x03\x04', 'a ZIP archive', 'unpack it'), (0, b'\x1f\x8b', 'a gzip file', 'unpack it'),
    (128, b'DICM', 'a DICOM file', ''), (344, b'n+1\0', 'a NIfTI file', ''),
    (0, b'\0\x05\x16\x07', "macOS's notes on another file", 'delete it'),
)
_HEIF = (b'heic', b'heix', b'hevc', b'heim', b'heis', b'mif1', b'msf1')
_CONVERT = 'convert it to PNG, TIFF or JPEG'
_CLUTTER = frozenset(('__MACOSX', '.ipynb_checkpoints'))
_CODINGS = {0xc3: 'lossless', 0xc5: 'hierarchical', 0xc6: 'hierarchical', 0xc7: 'hierarchical',
            0xc9: 'arithmetic', 0xca: 'arithmetic', 0xcb: 'arithmetic', 0xf7: 'JPEG-LS'}


def why_no_image(data: bytes) -> str:
    """Why no decoder knows a file, in words that follow its name.

    Args:
        data: its contents.
    """
    for offset, magic, what, remedy in _KINDS:
        if data.startswith(magic, offset):
            return f'not an image that can be read here, but {what}: {remedy or _CONVERT}'
    if data[4:8] == b'ftyp':
        brand = data[8:12]
        what = ('an HEIC photo' if brand in _HEIF else 'an AVIF image, which needs pillow>=11.3'
                if brand in (b'avif', b'avis') else 'a video or an image in a video container')
        return f'not an image that can be read here, but {what}: {_CONVERT}'
    if data[:2] == b'\xff\xd8':
        return _why_no_jpeg(data)
    if data[:1024].lstrip(b'\xef\xbb\xbf \t\r\n').lower().startswith((b'<svg', b'<?xml')):
        return f'not an image of pixels, but SVG or other XML: {_CONVERT}'
    if data[:1024].lstrip().lower().startswith((b'<!doctype', b'<html')):
        return 'not an image, but a web page: the download failed'
    if not any(data[:4096]):
        return 'not an image: it holds nothing but zeros; its transfer failed'
    return 'not an image, or of an unknown kind'


def is_clutter(name: str) -> bool:
    """Whether a path is one that programs leave beside images, under their names: macOS's notes
    (``._a.jpg``, ``__MACOSX/a.jpg``) and the copies of notebooks (``.ipynb_checkpoints/``)."""
    *folders, file = name.split('/')
    return file.startswith('._') or not _CLUTTER.isdisjoint((*folders, file))


def _why_no_jpeg(data: bytes) -> str:
    """By its frame header (ITU T.81, B.2.2)."""
    place = 2
    while place + 9 <= len(data) and data[place] == 0xff:
        marker = data[place + 1]
        length = struct.unpack_from('>H', data, place + 2)[0]
        if marker in (*range(0xc0, 0xc4), *range(0xc5, 0xc8), *range(0xc9, 0xcc), 0xf7):
            bits = data[place + 4]
            if bits != 8:
                return (f'a JPEG of {bits} bits per sample, of which only 8 can be read here: '
                        f'{_CONVERT}')
            if marker in _CODINGS:
                return f'a JPEG of {_CODINGS[marker]} coding, which cannot be read here: {_CONVERT}'
            return 'a damaged JPEG'
        place += 2 + length
    return 'a JPEG that is truncated or damaged before its pixels begin'
