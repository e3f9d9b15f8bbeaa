"""Fine-tuning: a downstream config, weights and labelled data become scores."""
