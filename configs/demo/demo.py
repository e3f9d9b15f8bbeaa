"""The demo: the whole way from unlabelled images to scores, on a sample that is drawn on the spot.

    densessl demo            or  make demo
    densessl demo --quick    or  make demo QUICK=1

Cost      made for at most 8 minutes on two CPU cores, 5 of them pretraining; quick, under 2.
Expected  nothing is promised: the report's first sentence says what was found.

Every measurement is made of random weights and of the pretrained ones with the same settings, and
repeated as often as there is time for: the difference has an interval.
"""

# Scenes of 160 × 160 pixels (densessl/demo/scenes.py). Few are labelled: with many labels random
# weights catch up, and pretraining has nothing to show.
sample = dict(unlabelled=1000, train=48, val=48, size=(160, 160))

# Drawn things differ by pigment and pattern: strong color jitter and few, large regions teach most.
# Tried on such scenes at 8 CPU-minutes each (frozen probe; random weights 10.0): these settings
# 22.1; weak jitter 13.6; weak jitter with 80 or 64 px views 16.5, 15.8; scale 120 12.6 to 16.5.
_jitter = {'brightness': 0.4, 'contrast': 0.4, 'saturation': 0.4, 'hue': 0.1}
pretraining = dict(
    name='DetCon',                      # what the report calls the weights
    config='small/detcon_s_r18',
    epochs=10,                          # 10 × 1000 images / 64 = 150 steps
    options={
        **{f'views.{view}.{key}': value for view in (0, 1)
           for key, value in dict(area=(0.2, 1.0), gray=0.2, **{'blur.p': 0.5}).items()},
        **{f'views.{view}.jitter.{key}': value for view in (0, 1)
           for key, value in _jitter.items()},
        'model.backbone.zero_init_residual': True,
        'schedule.warmup_epochs': 1, 'checkpoint.every_epochs': 5})

probe = dict(                           # of frozen features, by a 1×1 convolution
    repeats=3,                          # each draws labelled scenes and random weights anew
    scenes=24,                          # labelled ones of a repetition
    size=160)                           # pixels of the short side

finetuning = [
    dict(
        name='FCN',
        task='semantic segmentation',
        config='downstream/fcn_r18_folder',
        draw='classes',                 # the report's pictures: 'classes' or 'instances'
        scores=['mIoU'],                # of those that the evaluation gives, headline first
        curve='mIoU',                   # what the log calls that score
        repeats=3,                      # with seeds of their own
        fraction=0.25,                  # of the labelled training scenes
        options={'train_cfg.max_iters': 80, 'train_cfg.val_interval': 80,
                 'train_dataloader.num_workers': 1, 'val_dataloader.num_workers': 0}),
    dict(
        name='Mask R-CNN',
        task='detection and instance segmentation',
        config='downstream/mask_rcnn_r18_coco',
        draw='instances',
        scores=['box AP', 'mask AP'],
        curve='coco/bbox_mAP',
        curve_scale=100,                # the log has it as a share, the score is in percent
        repeats=2,
        fraction=1.0,
        options={'train_cfg.max_iters': 80, 'train_cfg.val_interval': 80,
                 'train_dataloader.num_workers': 1, 'val_dataloader.num_workers': 0}),
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
    'finetuning.1.repeats': 1,
    'finetuning.0.options': {'train_cfg.max_iters': 20, 'train_cfg.val_interval': 10,
                             'default_hooks.logger.interval': 2,
                             'train_dataloader.num_workers': 0},
    'finetuning.1.options': {'train_cfg.max_iters': 12, 'train_cfg.val_interval': 6,
                             'default_hooks.logger.interval': 2,
                             'train_dataloader.num_workers': 0},
}
