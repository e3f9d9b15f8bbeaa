"""Named in ``custom_imports``, this makes a config that fine-tuning wrote out work in
MMSegmentation's own tools: the classes it uses are registered, and ``mmcv.ops`` work without a
compiler."""
from densessl_plugins.mmseg.target import MMSegmentation

MMSegmentation().prepare()
