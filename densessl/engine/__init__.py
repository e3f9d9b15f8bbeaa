"""What every run by mmengine's Runner shares: stopping, saving and going on."""
