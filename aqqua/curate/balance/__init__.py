"""How often each image is used: strata, water-filling down the clusters, weights."""
