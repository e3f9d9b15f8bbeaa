"""Views: what is drawn for a sample, its geometry on the CPU and its photometry on the device."""
