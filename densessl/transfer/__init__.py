"""Export, recipe, fine-tuning, and the bridge to the libraries on the other side."""
