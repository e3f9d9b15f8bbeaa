"""Named in ``custom_imports``, this makes a config that fine-tuning wrote out work in MMDetection's
own tools: the classes it uses are registered, and ``mmcv.ops`` work without a compiler."""
from densessl_plugins.mmdet.target import MMDetection

MMDetection().prepare()
