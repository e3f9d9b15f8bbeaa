"""A model's predictions drawn onto the image, with a legend of the classes in it."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densessl.pictures import figures
from densessl.pictures.lettering import text_size, write
from densessl.transfer.prediction import Prediction

SIDE = 640          # pixels: smaller images are enlarged to about that, so that lines stay thin
TEXT, GAP = 15, 8   # pixels of the legend


def draw(image: np.ndarray, prediction: Prediction, classes: Sequence[str],
         palette: Sequence[Sequence[int]] = (), score: float = 0.3) -> np.ndarray:
    """Draw label map, boxes and masks, whatever was predicted.

    Args:
        image: (H, W, 3) uint8 RGB.
        classes: names by class index.
        palette: RGB colors by class index. One of another length belongs to other classes (a
            library's own, left where the data brought theirs): then our own are used.
        score: objects below are left out.

    Returns:
        (H', W', 3) uint8 RGB; the image enlarged by a whole number, the legend below.
    """
    colors = [tuple(int(c) for c in palette[i]) if len(palette) == len(classes)
              else figures.region_color(i) for i in range(len(classes))]
    scale = max(1, round(SIDE / max(image.shape[:2])))
    picture, shown = image, []
    if prediction.labels is not None:
        # Beyond the classes some libraries put what has no label: it stays as it is.
        picture = figures.draw_regions(image, prediction.labels, dict(enumerate(colors)), fill=0.78)
        shown += [index for index in np.unique(prediction.labels).tolist() if index < len(classes)]
    picture = figures.enlarged(picture, scale)
    if prediction.instances is not None:
        objects = prediction.instances.above(score)
        labels = [int(label) for label in objects.labels]
        words = [f'{classes[label]} {certain:.2f}' if certain < 1 else classes[label]
                 for label, certain in zip(labels, objects.scores, strict=True)]
        masks = [figures.enlarged(mask.astype(np.uint8), scale).astype(bool)
                 for mask in objects.masks]
        picture = figures.drawn_instances(picture, masks, objects.boxes * scale, words,
                                          [colors[label] for label in labels], scale=1)
        shown += [label for label in labels if label not in shown]
    return np.vstack([picture, legend([(classes[i], colors[i]) for i in sorted(set(shown))],
                                      picture.shape[1])])


def legend(entries: Sequence[tuple[str, Sequence[int]]], width: int) -> np.ndarray:
    """Names beside chips of their colors, in as many lines as fit ``width``: (h, width, 3)."""
    entries = entries or [('nothing was found', figures.WHITE)]
    line, places, left, top = TEXT + GAP + 4, [], GAP, GAP
    for name, color in entries:
        wide = TEXT + 5 + text_size(name, TEXT)[0]
        if left > GAP and left + wide + GAP > width:
            left, top = GAP, top + line
        places.append((name, color, left, top))
        left += wide + 2 * GAP
    strip = np.full((top + line, width, 3), 255, np.uint8)
    for name, color, left, top in places:
        strip[top + 2:top + 2 + TEXT, left:left + TEXT] = color
        write(strip, name, left + TEXT + 5, top, figures.INK, TEXT)
    return strip
