"""What every pretraining config shares; a config or --cfg-options may override each key."""
seed = 0
init = None              # weights to start from: --init
init_as = None           # --as: the network that somebody else's file is of
init_from = None         # --from: its layout
init_heads = False       # also take heads, targets and queue, from a checkpoint
uniforms = 64            # uniform numbers a view carries for its method (regions are drawn by them)
value_range = None       # stored values that become 0 and 255 in images of more than 8 bits: (low,
                         # high), 'minmax' or ('percentile', 1, 99); None: the type's full range
bands = None             # of a TIFF, counted from 1, as (3, 2, 1); None: the first three
log_interval = 50        # iterations between two lines; losses are read from the device only then
checkpoint = dict(every_epochs=10, keep=2)
channels_last = True     # memory format of the networks and of the views
max_unreadable = 0.01    # share of the images that may turn out unreadable before the run stops
pictures = 4             # images of which pictures of the features are drawn at 8 steps; 0: none
# compile = True or dict(…), arguments of torch.compile: the backbone's forward pass; off if unset,
# not False here, since mmengine would not let a config put a dict in its place
train_dataloader = dict(
    batch_size=None,     # images a process and iteration; None: global_batch / processes
    num_workers=8)       # loader processes for each training process

# ImageNet's statistics on the 0–255 scale, RGB; they travel with the backbone to the downstream
# model, which must use the same.
normalization = dict(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))

visualizer = dict(
    type='Visualizer',
    vis_backends=[dict(type='LocalVisBackend'),        # JSON lines: vis_data/scalars.json
                  dict(type='TensorboardVisBackend')])
