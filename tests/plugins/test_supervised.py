"""Labels from class folders, and the classifier."""
from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from densessl.errors import UsageError
from densessl.images.find import find_images
from densessl.labels.class_labels import class_labels
from densessl.method import View
from densessl_plugins.supervised.supervised import Supervised


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))


def test_labels_are_the_sorted_class_folders(tmp_path):
    for name in ('dog/1.png', 'cat/x/2.png', 'cat/3.png', 'eel/4.png'):
        write(tmp_path / name)
    images = find_images(tmp_path)
    names = [images.name(i) for i in range(len(images))]
    assert dict(zip(names, class_labels(images).tolist(), strict=True)) == {
        'cat/3.png': 0, 'cat/x/2.png': 0, 'dog/1.png': 1, 'eel/4.png': 2}


def test_images_without_class_folders_are_refused(tmp_path):
    write(tmp_path / 'a/1.png')
    with pytest.raises(UsageError, match='one class folder'):
        class_labels(find_images(tmp_path))
    write(tmp_path / 'flat.png')
    with pytest.raises(UsageError, match='is in no class folder'):
        class_labels(find_images(tmp_path))


def test_loss_is_the_cross_entropy_of_the_pooled_features():
    torch.manual_seed(0)
    method = Supervised(backbone=dict(type='torchvision.resnet18'), num_classes=5).eval()
    view = View(image=torch.randn(3, 3, 64, 64), target=torch.tensor([0, 4, 2]))
    out = method.loss([view])
    logits = method.classifier(method.backbone(view.image)[-1].flatten(2).mean(2))
    expected = -logits.log_softmax(1)[range(3), view.target].mean()
    torch.testing.assert_close(out['loss'], expected)
    assert 0 <= out['accuracy'] <= 1
