"""What is seen of each image by itself: a signature to compare it by, and its quality."""
