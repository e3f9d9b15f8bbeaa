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
checkpoint = dict(every_epochs=10, keep=2, keep_best=False)    # the best by the probe: best.pth
probe = dict(
    data=None,               # labelled images to watch the features on; or --probe DATA
    interval=None,           # updates between two probes; None: so many that they take 2 %
    stop_below_start=None,   # end the run after so many probes in a row below that of its start
    images=64,               # at most so many to learn from, half as many to score on
    cells=4096,              # at most so many feature vectors of them to learn from
    size=224, square=False,  # short side of the images, or both sides, in pixels
    stage=-1,                # which of the backbone's maps, 0 the finest
    decay=1e-3,              # λ of the probe's weights
    ignore=(255,), map=None)  # of label maps: ids without label, and id → id that is meant
channels_last = True     # memory format of the networks and of the views
tf32 = 'convolutions'    # GPUs round factors to 10 bits there; True: in matrix products, too
cudnn_benchmark = True   # GPUs keep the fastest of cuDNN's algorithms, which runs may find differ
deterministic = False    # True: the same bits in every run on the same GPU, more slowly
process_timeout = 30     # minutes that a process waits for the others before the run ends
max_unreadable = 0.01    # share of the images that may turn out unreadable before the run stops
gradient_checkpointing = False   # True: blocks are computed again in the backward pass, not kept
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
