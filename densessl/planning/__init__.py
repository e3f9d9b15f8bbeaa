"""From a pretraining config to a plan: what it may say, what it says, and the numbers of a run."""
