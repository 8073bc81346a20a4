"""The atlas: a map of embeddings as one table, with neighbours, scores, thumbnails and all that is known."""
