"""What a run sees: pictures of its backbone's features of a few fixed images, at fixed steps."""
from __future__ import annotations

import re
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.nn.functional import interpolate

from densessl.backbones import evaluating, finest_first
from densessl.errors import RunFailed, UsageError
from densessl.files.json_files import read_json_object, write_json
from densessl.files.writing import atomic_path
from densessl.pictures import dense_features, figures
from densessl.training.view_sheet import sample_panels
from densessl.views.collate import collate
from densessl.views.dataset import ViewDataset
from densessl.views.photometry import ViewPreprocessor
from densessl.views.sampler import PositionSampler

PICTURES, INDEX = 'pictures', 'pictures.json'   # in a work folder: the pictures, and what they show
KINDS = ('pca', 'regions', 'similarity')
MIN_ITERATIONS = 32      # nothing develops in a shorter run
SHARES = (0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1)     # of a run: early ones say most
CLUSTERS = 6
FINER = 3                # times the side of a view: more cells to see
MOST, SHOWN = 448, 224   # pixels of an image's side for the network, and of its pictures
_MADE = re.compile(r'(features|pca|regions|similarity)_(?P<step>\d{8}).*\.(npy|png)|pictures\.json'
                   r'|sample_\d+_\d+\.jpg|image_\d+\.png')


class PictureHook(Hook):
    """Writes pictures of dense features into ``work_dir/pictures``: colors by one basis over time
    (:func:`~densessl.pictures.dense_features.color_basis`), regions by k-means, and the similarity
    to the cell in the middle; beside them the images with their masks, and their views.

    The network is in evaluation mode, without gradients, and its forward hooks are passed by. So
    neither weights nor statistics change, and nothing is drawn from a generator. Between these
    steps the hook touches no tensor.

    Args:
        dataset: the run's samples, whose first images are shown.
        normalization: arguments of :class:`~densessl.views.photometry.ViewPreprocessor`.
        count: how many images.
        iterations: of the run.
        resume: keep the pictures of earlier steps.
    """

    priority = 'VERY_LOW'

    def __init__(self, dataset: ViewDataset, normalization: dict[str, Any], count: int,
                 iterations: int, *, resume: bool = False) -> None:
        self.dataset, self.count, self.resume = dataset, count, resume
        self.preprocessor = ViewPreprocessor(**normalization)
        self.steps = picture_steps(iterations) if count else []
        self.images: torch.Tensor | None = None     # (N, 3, S, S) normalized
        self.index: dict[str, Any] = {}
        self.view_side = 0      # pixels

    def before_train(self, runner: Runner) -> None:
        """Choose the images and draw them with their views; the features, if nothing is learned
        yet."""
        if not self.steps or not is_main_process():
            return
        self.folder = Path(runner.work_dir) / PICTURES
        self.folder.mkdir(exist_ok=True)
        begun = time.perf_counter()
        self._clear(after=runner.iter if self.resume else -1)
        names, pixels = self._samples(runner)
        if pixels:
            self.images = _normalized(np.stack(pixels), self.preprocessor)
        self.index |= {'images': names, 'steps': self._drawn_steps(),
                       'input': pixels[0].shape[0] if pixels else 0}
        self._spent(runner, begun)
        if runner.iter == 0:
            self._draw(runner, 0)

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if runner.iter + 1 in self.steps and is_main_process():
            self._draw(runner, runner.iter + 1)

    def _draw(self, runner: Runner, step: int) -> None:
        """Keep the features of a step, and draw all steps anew: the basis of colors has changed."""
        if self.images is None:
            return
        begun = time.perf_counter()
        backbone = getattr(runner.model, 'module', runner.model).backbone
        try:
            features = features_of(backbone, self.images)
        except (AssertionError, RuntimeError, ValueError):    # it takes no other size than its own
            self.images = interpolate(self.images, self.view_side, mode='bilinear', antialias=True)
            features = features_of(backbone, self.images)
        with atomic_path(self.folder / f'features_{step:08d}.npy') as path, path.open('wb') as file:
            np.save(file, features.astype(np.float16))
        steps = self._drawn_steps()
        draw_steps(self.folder, steps)
        self.index['steps'] = steps
        self._spent(runner, begun)

    def _samples(self, runner: Runner) -> tuple[list[str], list[np.ndarray]]:
        """Names and pixels (S, S, 3) of the first samples of the run that can be read, whose
        images, masks and views are drawn into the folder."""
        positions = PositionSampler(len(self.dataset), 1, seed=self.dataset.seed)
        names, pixels = [], []
        for position in islice(positions, min(self.count, len(self.dataset))):
            try:
                index, sample = self.dataset.sample(position)   # another if that is unreadable
                panels = sample_panels(self.dataset, self.preprocessor, position)
                self.view_side = self.view_side or _side(sample, self.preprocessor)
                image = _square(self.dataset.images.read(index),
                                max(self.view_side, min(MOST, FINER * self.view_side)))
            except (UsageError, RunFailed) as error:
                name = self.dataset.images.name(position[1])
                runner.logger.warning(f'no pictures of {name}: {error}')
                continue
            for j, panel in enumerate(panels):
                figures.write_picture(self.folder / f'sample_{len(names)}_{j}.jpg', panel, 85)
            figures.write_picture(self.folder / f'image_{len(names)}.png', _marked(image))
            names.append(self.dataset.images.name(index))
            pixels.append(image)
        return names, pixels

    def _clear(self, after: int) -> None:
        """Remove the pictures of another run, or of steps that a resumed one does again."""
        if after >= 0:
            with suppress(ValueError, TypeError):       # none, or damaged: it is written again
                before = read_json_object(self.folder / INDEX, remedy='')
                self.index = {'seconds': float(before.get('seconds', 0))}
        for path in self.folder.iterdir():
            made = _MADE.fullmatch(path.name)
            if made and not (made['step'] and int(made['step']) <= after):
                path.unlink()

    def _drawn_steps(self) -> list[int]:
        return sorted(int(path.stem.split('_')[1]) for path in self.folder.glob('features_*.npy'))

    def _spent(self, runner: Runner, begun: float) -> None:
        seconds = time.perf_counter() - begun
        runner.train_loop.aside += seconds      # it is not training
        self.index['seconds'] = self.index.get('seconds', 0) + seconds
        write_json(self.folder / INDEX, self.index)


def picture_steps(iterations: int) -> list[int]:
    """The iterations after which pictures are drawn, 0 among them; none in a short run."""
    if iterations < MIN_ITERATIONS:
        return []
    return sorted({round(share * iterations) for share in SHARES})


@torch.no_grad()
def features_of(backbone: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    """(N, h, w, C) unit features: the last map of ``backbone`` in evaluation mode.

    The class's ``forward`` is called: hooks of others see no pass that is not theirs, and a
    compiled backbone is not compiled again for this size.
    """
    device = next(backbone.parameters()).device
    with evaluating(backbone):
        maps = [finest_first(type(backbone).forward(backbone, image[None].to(device)))[-1]
                for image in images]
    return dense_features.unit(torch.cat(maps).float().permute(0, 2, 3, 1).cpu().numpy())


def draw_steps(folder: Path, steps: list[int]) -> None:
    """Draw the pictures of ``steps`` from the features that are kept in ``folder``."""
    features = [np.load(folder / f'features_{step:08d}.npy').astype(np.float32) for step in steps]
    basis, labels = dense_features.color_basis(features), None
    for step, one in zip(steps, features, strict=True):
        labels = dense_features.renumbered(dense_features.k_means(one, CLUSTERS), labels, CLUSTERS)
        alike = dense_features.similarity(one, one.shape[1] // 2, one.shape[2] // 2)
        pictures = {'pca': dense_features.as_colors(one, basis),
                    'regions': [dense_features.region_colors(image) for image in labels],
                    'similarity': [dense_features.heat(image) for image in alike]}
        for kind in KINDS:
            for i, picture in enumerate(pictures[kind]):
                figures.write_picture(folder / f'{kind}_{step:08d}_{i}.png',
                                      dense_features.cells(picture, SHOWN))


def _side(sample: dict[str, Any], preprocessor: ViewPreprocessor) -> int:
    return max(preprocessor(collate([sample]))['views'][0].image.shape[-2:])


def _square(image: np.ndarray, side: int) -> np.ndarray:
    """(side, side, 3): the middle of an image."""
    height, width = image.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = image[top:top + short, left:left + short]
    shrinks = side < short
    return cv2.resize(square, (side, side),
                      interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _normalized(pixels: np.ndarray, preprocessor: ViewPreprocessor) -> torch.Tensor:
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    images = (images - preprocessor.mean) / preprocessor.std
    return images.flip(1) if preprocessor.swaps else images


def _marked(image: np.ndarray) -> np.ndarray:
    """The image as small as its pictures, with a ring around the cell that others are compared to.
    """
    picture = _square(image, SHOWN)
    for color, thick in ((figures.INK, 5), (figures.WHITE, 2)):
        cv2.circle(picture, (SHOWN // 2 + 8, SHOWN // 2 + 8), 9, color, thick, cv2.LINE_AA)
    return picture
