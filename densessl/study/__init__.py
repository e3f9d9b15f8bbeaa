"""Studies: declarative files of pretrainings × data × evaluations × seeds, and their evidence."""
