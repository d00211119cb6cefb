"""What the comparisons of models share: a synthetic data set, training runs that are kept, pictures."""
