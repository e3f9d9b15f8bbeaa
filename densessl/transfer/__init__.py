"""The hand-off: from a checkpoint to the libraries on the other side, verified."""
