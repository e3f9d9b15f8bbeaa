"""What can be said of features without knowing where they come from."""
