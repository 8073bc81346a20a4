"""Serving an atlas to a browser, packing it for others, and taking selections out of it."""
