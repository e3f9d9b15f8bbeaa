"""How PASCAL VOC and Cityscapes lay out images and label maps; no library is imported for it."""
from __future__ import annotations

from pathlib import Path

from densessl.labels.data_root import SPLITS, listed_images, require
from densessl.labels.label_folder import LabelLayout, PixelLabels, visible_files
from densessl.labels.label_ids import IGNORED, UNKNOWN, MapMeaning

VOC_IMAGES, VOC_MAPS, VOC_LISTS = 'JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'
VOC_NAMES = ('background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog '
             'horse motorbike person pottedplant sheep sofa train tvmonitor').split()
CITYSCAPES_IMAGES, CITYSCAPES_MAPS = 'leftImg8bit', 'gtFine'
# labelId → name of the 19 classes that are evaluated, in the order of their train ids
# (mcordts/cityscapesScripts, helpers/labels.py); the others have no label.
CITYSCAPES_CLASSES = {
    7: 'road', 8: 'sidewalk', 11: 'building', 12: 'wall', 13: 'fence', 17: 'pole',
    19: 'traffic light', 20: 'traffic sign', 21: 'vegetation', 22: 'terrain', 23: 'sky',
    24: 'person', 25: 'rider', 26: 'car', 27: 'truck', 28: 'bus', 31: 'train', 32: 'motorcycle',
    33: 'bicycle'}
IMAGE, TRAIN_IDS, IDS = ('_leftImg8bit.png', '_gtFine_labelTrainIds.png', '_gtFine_labelIds.png')


def cityscapes_images(folder: Path) -> list[Path]:
    """The images below the folder of a split."""
    return [path for path in visible_files(folder, {'.png'}) if path.name.endswith(IMAGE)]


def cityscapes_map(image: Path, suffix: str) -> Path:
    """The label map of ``image``, both relative to the folders of their split."""
    return image.with_name(image.name.removesuffix(IMAGE) + suffix)


def cityscapes_strays(images: Path, maps: Path, suffix: str) -> list[str]:
    """The label maps below ``maps`` that no image below ``images`` has."""
    used = {maps / cityscapes_map(image.relative_to(images), suffix)
            for image in cityscapes_images(images)}
    return [str(path) for path in visible_files(maps, {'.png'})
            if path.name.endswith(suffix) and path not in used]


def _read_voc(root: Path) -> PixelLabels:
    pairs = {}
    for split in SPLITS:
        names = root / VOC_LISTS / f'{split}.txt'
        require([str(names.relative_to(root))], root, 'PASCAL VOC has that list of images')
        pairs[split] = [(root / VOC_IMAGES / f'{name}.jpg', root / VOC_MAPS / f'{name}.png')
                        for name in listed_images(names, root / VOC_IMAGES)]
    return PixelLabels(root, pairs, MapMeaning.of(VOC_NAMES, {IGNORED: IGNORED}))


def _read_cityscapes(root: Path) -> PixelLabels:
    """By ``labelIds``."""
    pairs, strays = {}, {}
    for split in SPLITS:
        images, maps = root / CITYSCAPES_IMAGES / split, root / CITYSCAPES_MAPS / split
        pairs[split] = [(image, maps / cityscapes_map(image.relative_to(images), IDS))
                        for image in cityscapes_images(images)]
        strays[split] = cityscapes_strays(images, maps, IDS)
    ids = dict.fromkeys([*range(35), IGNORED], IGNORED)     # the others evaluate to no label
    ids.update({label: index for index, label in enumerate(CITYSCAPES_CLASSES)})
    lookup = [ids.get(value, UNKNOWN) for value in range(256)]
    return PixelLabels(root, pairs, MapMeaning(tuple(CITYSCAPES_CLASSES.values()), tuple(lookup)),
                       strays)


LAYOUTS = [
    LabelLayout('PASCAL VOC', (VOC_IMAGES, VOC_MAPS, VOC_LISTS), _read_voc,
                below=('', 'VOC2012', 'VOCdevkit/VOC2012')),
    LabelLayout('Cityscapes', (CITYSCAPES_IMAGES, CITYSCAPES_MAPS), _read_cityscapes)]
