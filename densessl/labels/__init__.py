"""Labels in files: what they say, what their values mean, and what is wrong with them."""
