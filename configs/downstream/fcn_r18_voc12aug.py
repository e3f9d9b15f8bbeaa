"""The CPU-sized twin of fcn_r50_voc12aug: fcn_r18_folder on data laid out as VOC2012 is.

    densessl finetune downstream/fcn_r18_voc12aug --backbone backbone.pth --data-root DIR

Data      as for fcn_r50_voc12aug
Cost      300 iterations × 4 crops of 128², about 0.2 s each on a CPU core: one minute, and the
          evaluation.
Expected  No published figure: it is there to compare backbones with each other and with random
          initialization, all else equal. Scores are low in absolute terms; nothing trains for long.
"""
_base_ = 'fcn_r18_folder.py'

labels = None                      # not a folder of label maps, whose ids would be looked up

model = dict(decode_head=dict(num_classes=21))
train_dataloader = dict(
    dataset=dict(
        type='VocLabels',
        ann_file='ImageSets/Segmentation/train_aug.txt',
        data_root='data/VOCdevkit/VOC2012',
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='VocLabels',
        ann_file='ImageSets/Segmentation/val.txt',
        data_root='data/VOCdevkit/VOC2012',
    ),
)
test_dataloader = val_dataloader
