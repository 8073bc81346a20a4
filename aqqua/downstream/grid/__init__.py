"""Samples on a map: means per cell with their uncertainty, as CF-NetCDF and as a picture."""
