"""What a pretraining run did and whether it is well: one page, read from its work folder."""
