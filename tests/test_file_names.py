"""Names of files that are not UTF-8 reach every kind of file that densessl writes."""
from __future__ import annotations

import json
import logging
import os

from mmengine.logging import MMLogger

from densessl.files.json_files import write_json
from densessl.pictures.page import paragraph, write_page
from densessl.training.log import write_any_name

NAME = os.fsdecode(b'caf\xe9.jpg')


def test_json_reads_back_as_it_was(tmp_path):
    for content in ({'images': [NAME]}, {'images': ['café.jpg']}):
        write_json(tmp_path / 'x.json', content)
        assert json.loads((tmp_path / 'x.json').read_text(encoding='utf-8')) == content
    assert 'café' in (tmp_path / 'x.json').read_text(encoding='utf-8')     # where it can be
    assert os.fsencode(NAME) == b'caf\xe9.jpg'


def test_a_log_goes_on(tmp_path, capfd):
    logger = MMLogger('names', log_file=str(tmp_path / 'x.log'))
    file, = (one for one in logger.handlers if isinstance(one, logging.FileHandler))
    write_any_name(file)
    logger.info(f'{NAME} and ü')
    text = (tmp_path / 'x.log').read_text(encoding='utf-8')
    assert 'caf\\udce9.jpg and ü' in text and 'Logging error' not in capfd.readouterr().err


def test_a_page_shows_it(tmp_path):
    write_page(tmp_path / 'x.html', NAME, paragraph(NAME))
    assert 'caf\\udce9.jpg' in (tmp_path / 'x.html').read_text(encoding='utf-8')
