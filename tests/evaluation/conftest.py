"""What the tests of the hand-off make: exported backbones and a small labelled data set."""
from transfer.conftest import (  # noqa: F401  fixtures
    backbone18,
    checkpoint18,
    label_folder,
    make_checkpoint,
    tiny,
)
