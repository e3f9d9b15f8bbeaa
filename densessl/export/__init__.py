"""From anybody's weights to a ``backbone.pth`` that says where it is from, and to a start."""
