"""One image file: from its bytes to the pixels that a viewer shows."""
