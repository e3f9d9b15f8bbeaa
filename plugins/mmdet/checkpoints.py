"""Published checkpoints whose backbone is built by OpenMMLab's libraries.

Their ResNets are alike in all of them; MMDetection's stands for them.
"""
from __future__ import annotations

from densessl.transfer.foreign_checkpoints import CheckpointLayout

# encoder_q is Sequential(backbone, neck) where it is there: the backbone saved a second time
_PREFIX = r'(?:backbone|encoder_q\.0)\.'
_OTHERS = (r'encoder_q\.1\.|encoder_k\.|target_net\.|momentum_encoder\.|online_net\.1\.|neck\.|'
           r'head\.|predictor\.|queue|memory_bank\.|data_preprocessor\.')

# parts of detectors and segmenters beside their backbone, and the heads that tell them
_PARTS = (r'neck\.|data_preprocessor\.|level_embed$|'
          r'(?:\w+_)?(?:head|encoder|decoder|embed|embedding|fc|norm|generator|encoding)\.')
_HEADS = r'(?:^|\.)(?:rpn|roi|bbox|mask|panoptic|semantic|decode|auxiliary)_head\.'

CHECKPOINTS = [
    CheckpointLayout('mmdet', 'open-mmlab/mmdetection, open-mmlab/mmsegmentation',
                     prefix=r'backbone\.', others=_PARTS, heads=r'(?!)', requires=_HEADS),
    CheckpointLayout('mmselfsup', 'open-mmlab/mmselfsup, open-mmlab/mmpretrain, OpenSelfSup',
                     prefix=_PREFIX, others=_OTHERS, heads=r'(?!)'),
    CheckpointLayout('densecl', 'WXinlong/DenseCL', method='densecl', prefix=_PREFIX,
                     others=_OTHERS, heads=r'(?!)', requires='queue2'),
]
