"""The demo: the whole way from unlabelled images to scores, on a sample that is drawn on the spot.

    densessl demo            or  make demo
    densessl demo --quick    or  make demo QUICK=1

Cost      made for at most 8 minutes on two CPU cores, 5 of them pretraining; quick, under 2.
Expected  nothing is promised: the report's first sentence says what was found.

Every measurement is made of random weights and of the pretrained ones with the same settings, and
repeated as often as there is time for: the difference has an interval.
"""

# Scenes of 160 × 160 pixels (densessl/demo/scenes.py).
sample = dict(unlabelled=1000, train=120, val=48, size=(160, 160))

pretraining = dict(
    name='DetCon',                      # what the report calls the weights
    config='demo/pretraining',
    epochs=8,                           # 1000 scenes × 8 epochs = 125 steps of 64
    options={})                         # overrides by dotted key

probe = dict(                           # of frozen features, by a 1×1 convolution
    repeats=3,                          # each draws labelled scenes and random weights anew
    scenes=96,                          # labelled ones of a repetition
    size=160)                           # pixels of the short side

finetuning = [
    dict(
        name='FCN',
        task='semantic segmentation',
        config='downstream/fcn_r18_folder',
        draw='classes',                 # the report's pictures: 'classes' or 'instances'
        scores=['mIoU'],                # of those that the evaluation gives, headline first
        curve='mIoU',                   # what the log calls that score
        repeats=4,                      # with seeds of their own: its interval is wide
        fraction=0.1,                   # of the labelled scenes: with many, random weights catch up
        options={'train_cfg.max_iters': 70, 'train_cfg.val_interval': 70,
                 'train_dataloader.num_workers': 0, 'val_dataloader.num_workers': 0}),
    dict(
        name='Mask R-CNN',
        task='detection and instance segmentation',
        config='downstream/mask_rcnn_r18_coco',
        draw='instances',
        scores=['box AP', 'mask AP'],
        curve='coco/bbox_mAP',
        curve_scale=100,                # the log has it as a share, the score is in percent
        repeats=6,                      # scores vary a lot between seeds
        fraction=0.2,                   # with all, random weights catch up here as well
        options={'train_cfg.max_iters': 120, 'train_cfg.val_interval': 120,
                 'train_dataloader.batch_size': 2,
                 'train_dataloader.num_workers': 0, 'val_dataloader.num_workers': 0}),
]

pictures = dict(masks=6, views=4, predictions=5)

# What --quick changes: it shows that everything works, and its scores mean nothing.
quick = {
    'sample': dict(unlabelled=48, train=8, val=8),
    'pretraining.epochs': 2,
    'pretraining.options': {'views.0.size': 64, 'views.1.size': 64, 'global_batch': 16,
                            'train_dataloader.num_workers': 0, 'log_interval': 1},
    'probe': dict(repeats=2, scenes=4),
    'finetuning.0.repeats': 1,
    'finetuning.0.fraction': 0.25,
    'finetuning.0.options': {'train_cfg.max_iters': 20, 'train_cfg.val_interval': 10,
                             'default_hooks.logger.interval': 2,
                             'train_dataloader.num_workers': 0},
    'finetuning.1.repeats': 1,
    'finetuning.1.fraction': 0.5,
    'finetuning.1.options': {'train_cfg.max_iters': 12, 'train_cfg.val_interval': 6,
                             'default_hooks.logger.interval': 2,
                             'train_dataloader.num_workers': 0},
}
