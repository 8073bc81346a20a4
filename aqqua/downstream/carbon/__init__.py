"""How much carbon an organism holds, by published relations of size, with what is not known of it."""
