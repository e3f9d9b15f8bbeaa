"""MMSegmentation: its backbones, and fine-tuning its segmentors
(https://github.com/open-mmlab/mmsegmentation; the maintained onedl-mmsegmentation is used)."""
from densessl import hookimpl


@hookimpl
def transfer_targets():
    from densessl_plugins.mmseg.target import MMSegmentation
    return [MMSegmentation]
