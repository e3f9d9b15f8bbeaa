"""Published checkpoints whose backbone is a timm model, or a Vision Transformer with its keys.

Each entry was read from the code that writes such files; its ``origin`` names the repositories.
"""
from __future__ import annotations

from densessl.transfer.foreign_checkpoints import CheckpointLayout
from densessl.weights.key_layouts import CONVNEXT, DEEP_STEM, SWIN, VIT
from densessl_plugins.timm.efficientnets import HEADS, EfficientNetKeys

_EFFICIENTNET, _LITE = EfficientNetKeys(lite=False), EfficientNetKeys(lite=True)
CHECKPOINTS = [
    # plain ResNets have torchvision's keys, and are built from there
    CheckpointLayout(
        'timm', 'huggingface/pytorch-image-models',
        families=(VIT, SWIN, CONVNEXT, DEEP_STEM)),
    CheckpointLayout(
        'moco_v3', 'facebookresearch/moco-v3', method='moco_v3', prefix=r'base_encoder\.',
        others=r'momentum_encoder\.|predictor\.', families=(VIT,)),
    # the teacher is what its authors evaluate
    CheckpointLayout(
        'dino', 'facebookresearch/dino', method='dino', prefix=r'teacher\.(?:module\.)?backbone\.',
        others=r'student\.|teacher\.(?:module\.)?head\.|dino_loss\.', families=(VIT,)),
    CheckpointLayout(
        'dinov2', 'facebookresearch/dinov2', method='dinov2', others=r'mask_token$',
        requires=r'blocks\.0\.ls1\.gamma$'),
    CheckpointLayout(
        'mae', 'facebookresearch/mae', method='mae', others=r'decoder_|mask_token',
        requires='mask_token', families=(VIT,)),
    CheckpointLayout(
        'efficientnet_pytorch', 'lukemelas/EfficientNet-PyTorch', heads=HEADS,
        requires=r'_se_reduce\.', keys=_EFFICIENTNET, network=_EFFICIENTNET.network),
    # normalized as by TensorFlow's own Lites
    CheckpointLayout(
        'efficientnet_pytorch', 'ml-illustrated/EfficientNet-Lite-PyTorch', heads=HEADS,
        requires=r'_blocks\.', keys=_LITE, network=_LITE.network,
        mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)),
]
