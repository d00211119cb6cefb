"""What counts as an error, once, for training and for evaluation: residuals, metrics, comparisons."""
