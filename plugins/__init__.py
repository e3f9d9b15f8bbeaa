"""First-party plugins: each folder is a plugin, found as a third-party one is found."""
