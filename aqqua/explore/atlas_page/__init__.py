"""The page of an atlas: map, image wall, filters; the same from a server and in a folder."""
