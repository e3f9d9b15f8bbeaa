"""The training engine: mmengine's Runner, adapted in one place."""
