"""Writing images and masks into tar files."""
