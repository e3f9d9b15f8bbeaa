"""The report in a real browser: nothing overflows, and nothing is complained of."""
from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
from made_runs import make_run

from densessl.report.write import write_report

BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))),
               None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium (Debian's package chromium)")
DARK, LIGHT = 0, 1
MEASURE = """<body style="margin:0"><iframe src="report.html" style="border:0;width:{width}px;
height:4000px"></iframe><pre></pre><script>onload = () => {{
  const page = document.querySelector('iframe').contentDocument, root = page.documentElement;
  const wide = [...page.querySelectorAll('main *')].filter(one => !one.closest('.scroll, pre, svg')
    && one.getBoundingClientRect().right > {width} + 1).map(one => one.outerHTML.slice(0, 80));
  const broken = [...page.images].filter(one => !one.complete || !one.naturalWidth).length;
  document.querySelector('pre').textContent = JSON.stringify({{wide, broken,
    width: root.scrollWidth, images: page.images.length,
    charts: page.querySelectorAll('svg').length,
    ground: getComputedStyle(page.body).backgroundColor,
    inks: [...new Set([...page.querySelectorAll('svg text')].map(one =>
      getComputedStyle(one).fill))]}});
}}</script>"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('pages')
    long = 'a-run-with-a-name-that-is-longer-than-a-phone-is-wide-' * 2
    runs = [make_run(root / 'good', file='x' * 120 + '.jpg'), make_run(root / long, start=24.0),
            make_run(root / 'collapsed', collapses=True)]
    write_report(runs, root / 'report.html')
    return root


def browse(folder, *arguments):
    return subprocess.run(
        [BROWSER, '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
         '--allow-file-access-from-files', f'--user-data-dir={folder / "profile"}',
         '--enable-logging=stderr', *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize('width, scheme', [(390, DARK), (1440, LIGHT)])
def test_nothing_overflows_and_nothing_is_complained_of(folder, width, scheme):
    (folder / 'measure.html').write_text(MEASURE.format(width=width))
    done = browse(folder, f'--blink-settings=preferredColorScheme={scheme}',
                  '--window-size=1600,1200', '--dump-dom', (folder / 'measure.html').as_uri())
    found = json.loads(re.search('<pre>(.*?)</pre>', done.stdout, re.DOTALL)[1])
    assert 'CONSOLE' not in done.stderr
    assert found['width'] <= width and found['wide'] == []
    assert found['broken'] == 0 and found['images'] > 100 and found['charts'] > 8
    ground = sum(map(int, re.findall(r'\d+', found['ground'])))
    ink = sum(map(int, re.findall(r'\d+', found['inks'][0])))
    assert (ground < 100 < ink) if scheme == DARK else (ground > 600 > ink)


def test_it_can_be_printed(folder):
    browse(folder, f'--print-to-pdf={folder / "page.pdf"}', (folder / 'report.html').as_uri())
    assert (folder / 'page.pdf').read_bytes().startswith(b'%PDF')
