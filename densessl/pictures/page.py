"""Building blocks of a self-contained HTML page: no network, no scripts, light and dark."""
from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from densessl.files.writing import write_text

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1a1d24;
  --soft: #5c6470; --line: #dfe3e8; --accent: #1f66d1; --series-0: #8a93a0;
  --series-1: #1f66d1; --series-2: #c2571a; --series-3: #8e44ad;
  --series-4: #a67c00; --series-5: #0e8a8a; --series-6: #b3261e; --good: #177245; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --page: #101216; --card: #191c22; --ink: #e8eaee;
  --soft: #9aa3b0; --line: #2c313a; --accent: #76a9ff; --series-0: #8f99a8; --series-1: #76a9ff;
  --series-2: #f0965a; --series-3: #cf9be8;
  --series-4: #e5c35a; --series-5: #5cd0d0; --series-6: #ff8a80; --good: #6fcf97;
  --bad: #ff8a80; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 20px 64px; }
header { margin-bottom: 8px; }
h1 { font-size: clamp(1.6rem, 4.5vw, 2.3rem); line-height: 1.2; margin: 0 0 10px;
  letter-spacing: -0.015em; text-wrap: balance; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 0 0 6px; letter-spacing: -0.005em; }
h3 { font-size: 1rem; margin: 22px 0 4px; }
p { margin: 0 0 12px; max-width: 72ch; }
.lead { font-size: 1.1rem; }
.soft, figcaption, small { color: var(--soft); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 22px 24px; margin-top: 20px; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 18px 0 0; }
.tile { flex: 1 1 150px; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; padding: 12px 16px; }
.tile b { display: block; font-size: 1.7rem; line-height: 1.25; font-weight: 650;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .875rem; }
.tile.chosen b { color: var(--accent); }
.rows { display: grid; gap: 16px 20px; margin-top: 14px;
  grid-template-columns: repeat(var(--wide), minmax(0, 1fr)); }
.rows .rows, .tight { gap: 6px; margin: 0; }
figure { margin: 0; min-width: 0; }
figure img { display: block; width: 100%; height: auto; border-radius: 6px;
  background: var(--line); }
figcaption { font-size: .8125rem; line-height: 1.35; margin-top: 4px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 8px 0 4px; }
th, td { text-align: left; padding: 6px 18px 6px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { font-weight: 600; color: var(--soft); font-size: .875rem; }
td.number, th.number { text-align: right; padding-left: 12px; }
tr.strong td { font-weight: 650; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 12px 0 0; padding: 0;
  list-style: none; font-size: .875rem; }
i.chip { display: inline-block; width: .85em; height: .85em; border-radius: 3px;
  margin-right: .4em; vertical-align: -1px; border: 1px solid rgb(127 127 127 / .4); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr));
  gap: 18px 24px; margin-top: 12px; }
svg { display: block; width: 100%; height: auto; overflow: visible; stroke-linejoin: round; }
svg text { font-family: inherit !important; }
.title { font-weight: 600; font-size: .9375rem; }
.good { color: var(--good); } .bad { color: var(--bad); }
details { margin-top: 12px; } summary { cursor: pointer; color: var(--accent); }
pre { font: .8125rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-x: auto; margin: 8px 0 0; padding: 12px; border-radius: 8px; background: var(--page); }
@media (max-width: 640px) { main { padding: 24px 12px 40px; } section { padding: 16px 14px; }
  .rows { gap: 14px 8px; grid-template-columns: repeat(var(--phone), minmax(0, 1fr)); }
  figcaption { font-size: .75rem; } th, td { padding-right: 12px; } }
@media print { section, .tile { break-inside: avoid; } }
"""


def write_page(path: Path, title: str, body: str) -> None:
    """Write ``body`` (HTML) as a complete page, atomically."""
    page = (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n'
            f'<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n')
    write_text(path, page, errors='backslashreplace')


def section(title: str, *parts: str) -> str:
    """A card with a heading."""
    return f'<section>\n<h2>{escape(title)}</h2>\n' + '\n'.join(parts) + '\n</section>'


def paragraph(text: str, kind: str = '') -> str:
    """Plain text as a paragraph of CSS class ``kind``."""
    return f'<p{_class(kind)}>{escape(text)}</p>'


def picture(image: np.ndarray, caption: str = '', alt: str = '',
            chip: Sequence[int] | None = None) -> str:
    """(H, W, 3) uint8 RGB as a figure with its pixels inside the page.

    Args:
        chip: the color of a small square before the caption.
    """
    done, data = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
                              [cv2.IMWRITE_JPEG_QUALITY, 84])
    assert done, 'OpenCV could not encode a picture'
    source = base64.b64encode(data.tobytes()).decode()
    height, width = image.shape[:2]
    square = _chip(chip) if chip else ''
    below = f'<figcaption>{square}{escape(caption)}</figcaption>' if caption else ''
    return (f'<figure><img src="data:image/jpeg;base64,{source}" width="{width}" '
            f'height="{height}" alt="{escape(alt or caption)}">{below}</figure>')


def rows(cells: Iterable[str], columns: int, phone: int | None = None) -> str:
    """Cells in equal columns: so many, and on a narrow screen ``phone``."""
    return (f'<div class="rows" style="--wide: {columns}; --phone: {phone or columns}">'
            + ''.join(cells) + '</div>')


def table(header: Sequence[str], lines: Iterable[Sequence[object]], numbers: Sequence[int] = (),
          strong: Sequence[int] = ()) -> str:
    """A table of plain text.

    Args:
        numbers: the columns to align to the right. strong: the lines to emphasize.
    """
    def cells(tag: str, line: Sequence[object]) -> str:
        return ''.join(f'<{tag}{_class("number" if i in numbers else "")}>{escape(str(cell))}'
                       f'</{tag}>' for i, cell in enumerate(line))
    head = f'<thead><tr>{cells("th", header)}</tr></thead>' if any(header) else ''
    body = ''.join(f'<tr{_class("strong" if i in strong else "")}>{cells("td", line)}</tr>'
                   for i, line in enumerate(lines))
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def tiles(items: Iterable[tuple[str, str, bool]]) -> str:
    """Figures to be seen first: (value, what it is, whether it is the emphasized one)."""
    return '<div class="tiles">' + ''.join(
        f'<div class="tile{" chosen" if chosen else ""}"><b>{escape(value)}</b>'
        f'<span>{escape(what)}</span></div>' for value, what, chosen in items) + '</div>'


def legend(items: Iterable[tuple[str, Sequence[int]]]) -> str:
    """Names and their colors."""
    return '<ul class="legend">' + ''.join(
        f'<li>{_chip(color)}{escape(name)}</li>'
        for name, color in items) + '</ul>'


def folded(summary: str, content: str) -> str:
    """``content`` (HTML) that opens on a click."""
    return f'<details><summary>{escape(summary)}</summary>{content}</details>'


def verbatim(text: str) -> str:
    """Text as typed."""
    return f'<pre>{escape(text)}</pre>'


def _chip(color: Sequence[int]) -> str:
    red, green, blue = (int(c) for c in color)
    return f'<i class="chip" style="background: rgb({red} {green} {blue})"></i>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ''
