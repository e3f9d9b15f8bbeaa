"""How well each pretext task is solved on scenes that were not trained on, beside chance.

    python -c "from pathlib import Path; from densessl.demo.sample import write_scenes; \\
        write_scenes(Path('scenes'), unlabelled=600, train=1, val=200)"
    densessl train small/rotation_r18 --data scenes/unlabelled --work-dir runs/rotation \\
        --epochs 4 --cfg-options views.0.size=64
    python benchmarks/pretext_tasks.py runs/rotation/iter_150.pth --images scenes/images/val \\
        --cfg-options views.0.size=64

The checkpoint says which config it is from; the options of its run have to be given again.
"""
from __future__ import annotations

import argparse

import numpy as np
import torch

from densessl.commands import parse_options
from densessl.config import load_config
from densessl.engine.checkpoint_file import read_checkpoint
from densessl.images.find import find_images
from densessl.registry import METHODS
from densessl.views.collate import collate
from densessl.views.dataset import ViewDataset
from densessl.views.photometry import ViewPreprocessor
from densessl.views.view import view_class_of


@torch.no_grad()
def accuracy(checkpoint: str, images: str, options: list[str], batch: int, seed: int = 1
             ) -> tuple[str, float, int]:
    """The method's name, its mean logged accuracy over ``images`` in batches of ``batch``, and how
    many images that were."""
    content = read_checkpoint(checkpoint)
    about = content['meta']['densessl']
    cfg = load_config(f'small/{about["config"]}', parse_options(options))
    method = METHODS.build(cfg.model.to_dict())
    method.load_state_dict(content['state_dict'])
    method.eval()
    views = [view_class_of(type(method))(**view) for view in cfg.views]
    dataset = ViewDataset(find_images(images), None, views, seed=seed, uniforms=cfg.uniforms)
    preprocessor, found = ViewPreprocessor(**cfg.normalization), []
    for start in range(0, len(dataset) - batch + 1, batch):
        samples = [dataset[i, i] for i in range(start, start + batch)]
        found.append(float(method.loss(preprocessor(collate(samples))['views'])['accuracy']))
    return about['method'], float(np.mean(found)), batch * len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint')
    parser.add_argument('--images', required=True)
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--cfg-options', nargs='+', default=[])
    args = parser.parse_args()
    name, value, images = accuracy(args.checkpoint, args.images, args.cfg_options, args.batch)
    print(f'{name}: accuracy {value:.3f} on {images} images in batches of {args.batch}')


if __name__ == '__main__':
    main()
