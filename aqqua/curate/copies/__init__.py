"""Which images show the same picture, in a dataset and across datasets."""
