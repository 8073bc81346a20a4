"""Clusters of embeddings: k-means in levels, within each instrument, out of core."""
