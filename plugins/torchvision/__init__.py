"""torchvision's classification models as backbones (https://github.com/pytorch/vision)."""
from densessl import hookimpl


@hookimpl
def transfer_targets():
    from densessl_plugins.torchvision.target import Torchvision
    return [Torchvision]
