"""Published checkpoints whose backbone is a torchvision model.

Each entry was read from the code that writes such files; its ``origin`` names the repositories.
"""
from __future__ import annotations

from densessl.transfer.foreign_checkpoints import CheckpointLayout
from densessl.weights.keymap import KeyMap, Rename

# nn.Sequential(*resnet.children()) numbers conv1, bn1, ReLU, pooling, layer1 … layer4
SEQUENTIAL = KeyMap([
    Rename('0.weight', 'conv1.weight'), Rename('1.{n}', 'bn1.{n}'),
    *(Rename(f'{stage + 3}.{{*}}', f'layer{stage}.{{*}}') for stage in (1, 2, 3, 4))])
TO_UNIT_RANGE = {'mean': (0.0, 0.0, 0.0), 'std': (255.0, 255.0, 255.0)}   # ToTensor() alone

CHECKPOINTS = [
    CheckpointLayout(
        'torchvision', 'pytorch/vision, and backbones saved alone by many'),
    CheckpointLayout(
        'torchvision', 'pytorch/vision, detection', prefix=r'backbone\.body\.',
        others=r'backbone\.fpn\.|rpn\.|roi_heads\.|head\.', requires=r'backbone\.body\.'),
    CheckpointLayout(
        'detr', 'facebookresearch/detr', prefix=r'backbone\.0\.body\.',
        others=r'(?:transformer|class_embed|bbox_embed|query_embed|input_proj)\.',
        requires=r'backbone\.0\.body\.'),
    CheckpointLayout(
        'moco', 'facebookresearch/moco', method='moco', prefix=r'encoder_q\.(?!0\.conv)',
        others=r'encoder_k\.|queue'),
    CheckpointLayout(
        'moco_v3', 'facebookresearch/moco-v3', method='moco_v3', prefix=r'base_encoder\.',
        others=r'momentum_encoder\.|predictor\.'),
    # the projection is the ResNet's own fc
    CheckpointLayout(
        'simclr', 'sthalles/SimCLR', method='simclr', prefix=r'backbone\.',
        requires=r'backbone\.fc\.', **TO_UNIT_RANGE),
    CheckpointLayout(
        'simclr', 'Spijkervet/SimCLR', method='simclr', prefix=r'encoder\.',
        others=r'projector\.', **TO_UNIT_RANGE),
    # VISSL's files, and those of its model zoo
    CheckpointLayout(
        'vissl', 'facebookresearch/vissl',
        prefix=r'classy_state_dict\.base_model\.model\.trunk\._feature_blocks\.',
        others=r'classy_state_dict\.(?!base_model\.model\.trunk\._feature_blocks\.)'),
    # one network saved twice, whole and as its encoder
    CheckpointLayout(
        'byol', 'sthalles/PyTorch-BYOL', method='byol', keys=SEQUENTIAL,
        prefix=r'(?:encoder_state_dict|online_network_state_dict\.encoder)\.',
        others=r'online_network_state_dict\.projetion\.|target_network_state_dict\.|predictor',
        **TO_UNIT_RANGE),
    CheckpointLayout(
        'byol', 'yaox12/BYOL-PyTorch', method='byol', keys=SEQUENTIAL,
        prefix=r'(?:online_network\.encoder|online_backbone)\.',
        others=r'online_network\.projetion\.|target_network\.|predictor\.'),
    CheckpointLayout(
        'byol', 'lucidrains/byol-pytorch', method='byol',
        prefix=r'(?:learner\.)?(?:net|online_encoder\.net)\.',
        others=r'(?:learner\.)?(?:online_encoder\.projector|online_predictor|target_encoder)\.'),
    CheckpointLayout(
        'detcon', 'isaaccorley/detcon-pytorch', method='detcon', keys=SEQUENTIAL,
        prefix=r'(?:network\.)?encoder\.',
        others=r'(?:network\.)?projector\.|predictor\.|temperature$|\w+_ema\.', **TO_UNIT_RANGE),
    CheckpointLayout(
        'lightly', 'lightly-ai/lightly', keys=SEQUENTIAL, prefix=r'backbone\.',
        others=r'backbone_momentum\.|\w*(?:head|prototypes|queue|criterion)\w*(?:\.|$)'),
    CheckpointLayout(
        'swav', 'facebookresearch/swav', method='swav', others=r'projection_head\.|prototypes',
        requires=r'projection_head\.'),
    CheckpointLayout(
        'vicreg', 'facebookresearch/barlowtwins, facebookresearch/vicreg', prefix=r'backbone\.',
        others=r'projector\.|bn\.', requires=r'projector\.'),
    # the teacher is what its authors evaluate
    CheckpointLayout(
        'dino', 'facebookresearch/dino', method='dino', prefix=r'teacher\.(?:module\.)?backbone\.',
        others=r'student\.|teacher\.(?:module\.)?head\.|dino_loss\.'),
]
