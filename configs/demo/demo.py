"""The demo: the whole way from unlabelled images to scores, on a sample that is drawn on the spot.

    densessl demo            or  make demo
    densessl demo --quick    or  make demo QUICK=1

Cost      at most 12 minutes on two CPU cores; quick, under 2.
Expected  nothing is promised: the report shows what was measured.

Every downstream model is fine-tuned twice with the same settings, once from random weights and
once from the pretrained ones.
"""

# Scenes of 160 × 160 pixels (densessl/demo/scenes.py). Few are labelled: with many labels random
# weights catch up, and pretraining has nothing to show.
sample = dict(unlabelled=600, train=24, val=48, size=(160, 160))

pretraining = dict(
    name='DetCon',                      # what the report calls the weights
    config='demo/detcon_r18',
    epochs=6,
    options={})                         # overrides by dotted key

finetuning = [
    dict(
        name='FCN',
        task='semantic segmentation',
        config='downstream/fcn_r18_folder',
        draw='classes',                 # the report's pictures: 'classes' or 'instances'
        scores=['mIoU'],                # of those that the evaluation gives, headline first
        curve='mIoU',                   # what the log calls that score
        fraction=1.0,                   # of the labelled training scenes
        options={'train_cfg.val_interval': 60, 'train_dataloader.num_workers': 1,
                 'val_dataloader.num_workers': 0}),
    dict(
        name='Mask R-CNN',
        task='detection and instance segmentation',
        config='downstream/mask_rcnn_r18_coco',
        draw='instances',
        scores=['box AP', 'mask AP'],
        curve='coco/bbox_mAP',
        curve_scale=100,                # the log has it as a share, the score is in percent
        fraction=1.0,
        options={'train_cfg.max_iters': 200, 'train_cfg.val_interval': 50,
                 'train_dataloader.num_workers': 1, 'val_dataloader.num_workers': 0}),
]

pictures = dict(masks=6, views=4, predictions=5)

# What --quick changes: it shows that everything works, and its scores mean nothing.
quick = {
    'sample': dict(unlabelled=48, train=8, val=8),
    'pretraining.epochs': 2,
    'pretraining.options': {'views.0.size': 64, 'views.1.size': 64, 'global_batch': 16,
                            'train_dataloader.num_workers': 0, 'log_interval': 1},
    'finetuning.0.options': {'train_cfg.max_iters': 20, 'train_cfg.val_interval': 10,
                             'default_hooks.logger.interval': 2,
                             'train_dataloader.num_workers': 0},
    'finetuning.1.options': {'train_cfg.max_iters': 12, 'train_cfg.val_interval': 6,
                             'default_hooks.logger.interval': 2,
                             'train_dataloader.num_workers': 0},
}
