"""The pictures of `docs/gallery.md`, painted by the checkpoint that ships: `python -m bench.gallery`."""
