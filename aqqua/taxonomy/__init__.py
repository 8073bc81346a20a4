"""What labels mean: classes of a label set with their place in the tree of life."""
