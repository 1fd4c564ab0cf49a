"""Names the kinds of pictures that are read, so that no other one starts a program (Pillow hands EPS to one)."""

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""For `PIL.Image.open(..., formats=FORMATS)`."""
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings of pictures in folders, in lower case."""
