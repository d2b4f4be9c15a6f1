"""The engine against plain diffusers: same device, checkpoint, precision and settings, side by side in one run."""
