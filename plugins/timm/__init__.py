"""timm's models as backbones (https://github.com/huggingface/pytorch-image-models)."""
from densessl import hookimpl


@hookimpl
def transfer_targets():
    from densessl_plugins.timm.target import Timm
    return [Timm]
