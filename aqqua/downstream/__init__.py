"""What the ocean holds: classes, sizes, carbon and samples from images, and the forms that others read."""
