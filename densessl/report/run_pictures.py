"""The pictures of a run as HTML: what it saw at fixed steps, beside its images and views."""
from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from densessl.pictures import page
from densessl.report.recorded_run import RecordedRun
from densessl.training.picture_hook import KINDS, PICTURES

NONE = ('No pictures: this run has none. They are drawn in runs of at least 32 iterations, with '
        'pictures=N in the config.')
WORDS = {'pca': ('Colors of the features', 'The three directions in which features vary most, as '
                 'red, green and blue: one basis for all steps. Like colors, like features; gray '
                 'all over: nothing is told apart.'),
         'regions': ('Regions by k-means', 'Cells with like features, six groups over all images.'),
         'similarity': ('Similarity to the marked point', 'Dark 0, bright 1, at every step. Bright '
                        'all over: everything looks alike.')}
LEGEND = '<ul class="soft notes">' + ''.join(
    f'<li><b>{title}.</b> {text}</li>' for title, text in WORDS.values()) + '</ul>'
MEDIA = {'.png': 'png', '.jpg': 'jpeg'}


def picture_section(run: RecordedRun) -> str:
    """Each image, and below it a row of pictures over time for each kind."""
    return _first_and_more([_image(run, i, name) for i, name in enumerate(_images(run))])


def view_section(run: RecordedRun) -> str:
    """Images with their masks and crops, and their views as the network gets them."""
    shown = []
    for i in range(len(_images(run))):
        files = sorted((run.folder / PICTURES).glob(f'sample_{i}_*.jpg'))
        cells = [embedded(path, f'view {j}' if j else 'image, mask and crops')
                 for j, path in enumerate(files)]
        if cells:
            shown.append(page.rows(cells, columns=len(cells), phone=1))
    return _first_and_more(shown)


def _first_and_more(shown: Sequence[str]) -> str:
    if not shown:
        return page.paragraph(NONE, 'soft')
    more = page.folded(f'{len(shown) - 1} more', ''.join(shown[1:])) if len(shown) > 1 else ''
    return shown[0] + more


def embedded(path: Path, caption: str = '', alt: str = '') -> str:
    """A picture's file inside the page; a word where it is gone."""
    try:
        source = base64.b64encode(path.read_bytes()).decode()
    except OSError:
        return f'<figure class="soft">{escape(path.name)} is gone</figure>'
    below = f'<figcaption>{escape(caption)}</figcaption>' if caption else ''
    return (f'<figure><img src="data:image/{MEDIA[path.suffix]};base64,{source}" '
            f'alt="{escape(alt or caption)}">{below}</figure>')


def _images(run: RecordedRun) -> list[str]:
    names = (run.pictures or {}).get('images')
    return list(map(str, names)) if isinstance(names, list) else []


def _image(run: RecordedRun, number: int, name: str) -> str:
    folder, steps = run.folder / PICTURES, run.pictures['steps']
    rows = []
    for kind in KINDS:
        cells = [embedded(folder / f'{kind}_{step:08d}_{number}.png', f'step {step}',
                          f'{WORDS[kind][0]} at step {step}') for step in steps]
        rows.append(f'<h4>{escape(WORDS[kind][0])}</h4>'
                    + page.rows(cells, columns=max(8, len(cells)), phone=4))
    image = embedded(folder / f'image_{number}.png', name)
    return f'<div class="seen"><div class="original">{image}</div><div>{"".join(rows)}</div></div>'
