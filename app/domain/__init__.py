"""The values that travel. Pure: they know nobody, everybody may know them."""
