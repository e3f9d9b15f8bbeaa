"""The CPU-sized twin of fcn_r50_cityscapes on data laid out as Cityscapes is: fcn_r18_folder with
another data set.

    densessl finetune downstream/fcn_r18_cityscapes --backbone backbone.pth --data-root DIR

Data      as for fcn_r50_cityscapes
Cost      300 iterations × 4 crops of 128², about 0.2 s each on a CPU core: one minute, and the
          evaluation.
Expected  No published figure: it is there to compare backbones with each other and with random
          initialization, all else equal. Scores are low in absolute terms; nothing trains for long.
"""
_base_ = 'fcn_r18_folder.py'

labels = None                      # not a folder of label maps, whose ids would be looked up

model = dict(decode_head=dict(num_classes=19))
train_dataloader = dict(
    dataset=dict(
        type='CityscapesDataset',
        data_root='data/cityscapes/',
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='CityscapesDataset',
        data_root='data/cityscapes/',
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
    ),
)
test_dataloader = val_dataloader
