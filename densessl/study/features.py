"""What dense features see: their three strongest directions as red, green and blue."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage import data as photos

from densessl.benchmark.report import save_figure
from densessl.export.named_network import parse_network
from densessl.pixels.scaled_size import scaled_size
from densessl.probes.frozen import Measured, load_measured
from densessl.study.cells import Place
from densessl.study.graph import Graph, row_name
from densessl.study.plan import RANDOM, Study

SHOWN = ('chelsea', 'coffee', 'rocket')     # photos in the public domain that scikit-image brings
SIDE = 448      # pixels of their short side, a multiple of every stride
MOST = 8        # rows of a study that are shown


def write_features(study: Study, graph: Graph, place: Place, path: Path) -> Path | None:
    """Draw the features of every row's first seed on photos of no study's data; None if there are
    no weights yet."""
    found = _backbones(study, graph, place)
    if not found:
        return None
    images = [_resized(getattr(photos, name)()) for name in SHOWN]
    pictures = {name: principal(one, images) for name, one in found.items()}
    _grid(images, pictures, path)
    return path


def principal(backbone: Measured, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The last maps of (H, W, 3) uint8 RGB ``images`` as colors of the same size.

    The three components are those of all cells of all images together, so that one color means the
    same in all of them.
    """
    maps = [backbone.maps(torch.from_numpy(image).permute(2, 0, 1)[None])[-1][0].float().cpu()
            for image in images]
    cells = torch.cat([one.flatten(1).T for one in maps])       # (all cells, C)
    mean = cells.mean(0)
    # of the covariance, whose size is that of the channels, not of the cells
    _, directions = torch.linalg.eigh((cells - mean).T @ (cells - mean))
    directions = directions[:, -3:].flip(1)                     # (C, 3), strongest first
    directions = directions * torch.where(directions.sum(0) < 0, -1.0, 1.0)
    seen = (cells - mean) @ directions
    low, high = (torch.quantile(seen, share, dim=0) for share in (0.02, 0.98))
    colors = ((seen - low) / (high - low).clamp(min=1e-12)).clamp(0, 1).numpy()
    pictures, start = [], 0
    for image, one in zip(images, maps, strict=True):
        rows, columns = one.shape[1:]
        own = colors[start:start + rows * columns].reshape(rows, columns, 3)
        start += rows * columns
        pictures.append(cv2.resize((255 * own).astype(np.uint8), image.shape[1::-1],
                                   interpolation=cv2.INTER_NEAREST))
    return pictures


def _backbones(study: Study, graph: Graph, place: Place) -> dict[str, Measured]:
    """The backbones of the first seed of each row that has one."""
    found: dict[str, Measured] = {}
    for cell in graph.scorings:
        name = row_name(cell.weights)
        if name in found or cell.seed != study.seeds[0] or len(found) == MOST:
            continue
        if cell.weights.weights == RANDOM:
            network = parse_network(cell.weights.backbone)
            found[name] = load_measured(RANDOM, network, 'cpu', cell.seed)
        elif cell.pretraining is None or cell.pretraining.backbone(place).is_file():
            found[name] = load_measured(cell.file(place), None, 'cpu', cell.seed)
    trained = any(one.meta.get('method') != RANDOM for one in found.values())
    return found if trained else {}


def _resized(image: np.ndarray) -> np.ndarray:
    height, width = scaled_size(image.shape[:2], SIDE, 32)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _grid(images: Sequence[np.ndarray], pictures: Mapping[str, Sequence[np.ndarray]], path: Path
          ) -> None:
    """Photos in rows, what is seen of them in columns."""
    from matplotlib.figure import Figure
    columns = {'photo': images, **pictures}
    width = 2.1 * len(columns)
    figure = Figure(figsize=(width, 1.55 * len(images) + 0.3), dpi=130, layout='constrained')
    axes = figure.subplots(len(images), len(columns), squeeze=False)
    for j, (name, shown) in enumerate(columns.items()):
        axes[0][j].set_title(name, fontsize=9)
        for i, image in enumerate(shown):
            axes[i][j].imshow(image)
            axes[i][j].set_axis_off()
    save_figure(figure, path)
