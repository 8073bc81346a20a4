"""Which images to train on, how often: signatures, duplicates, quality, contamination, clusters, weights."""
