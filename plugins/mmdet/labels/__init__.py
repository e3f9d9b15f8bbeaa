"""Labels of objects, in the layouts that users have."""
