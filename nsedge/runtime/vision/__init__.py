"""Pictures: from their bytes to what a graph takes. Pillow is imported with the first of them."""
