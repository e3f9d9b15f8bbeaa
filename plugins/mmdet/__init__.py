"""MMDetection: its backbones, and fine-tuning its detectors
(https://github.com/open-mmlab/mmdetection; the maintained onedl-mmdetection is used)."""
from densessl import hookimpl


@hookimpl
def transfer_targets():
    from densessl_plugins.mmdet.target import MMDetection
    return [MMDetection]
