"""Pretext tasks: a label that the image itself gives away, from before contrastive learning.

* ``rotation``: Gidaris, Singh, Komodakis: Unsupervised Representation Learning by Predicting Image
  Rotations (ICLR 2018), https://arxiv.org/abs/1803.07728; released code
  https://github.com/gidariss/FeatureLearningRotNet.
* ``relative_location``: Doersch, Gupta, Efros: Unsupervised Visual Representation Learning by
  Context Prediction (ICCV 2015), https://arxiv.org/abs/1505.05192.
* ``jigsaw``: Noroozi, Favaro: Unsupervised Learning of Visual Representations by Solving Jigsaw
  Puzzles (ECCV 2016), https://arxiv.org/abs/1603.09246.
* ``cpc``: van den Oord, Li, Vinyals: Representation Learning with Contrastive Predictive Coding
  (2018), https://arxiv.org/abs/1807.03748; Hénaff et al.: Data-Efficient Image Recognition with
  Contrastive Predictive Coding (ICML 2020), https://arxiv.org/abs/1905.09272.

The ResNet-50 recipes are those of Goyal, Mahajan, Gupta, Misra: Scaling and Benchmarking
Self-Supervised Visual Representation Learning (ICCV 2019), https://arxiv.org/abs/1905.01235
(https://github.com/facebookresearch/vissl), Kolesnikov, Zhai, Beyer: Revisiting Self-Supervised
Visual Representation Learning (CVPR 2019), https://arxiv.org/abs/1901.09005, and
https://github.com/open-mmlab/mmselfsup.
"""
from __future__ import annotations

from densessl import hookimpl


@hookimpl
def methods() -> list[type]:
    from densessl_plugins.pretext.cpc import CPC
    from densessl_plugins.pretext.jigsaw import Jigsaw
    from densessl_plugins.pretext.relative_location import RelativeLocation
    from densessl_plugins.pretext.rotation import Rotation
    return [Rotation, RelativeLocation, Jigsaw, CPC]
