"""What a pretraining run did and whether it is healthy: one page, read from its work folder."""
