"""Pictures as pixels: in and out of files (images, encoding), larger (upscalers), in the making (previews)."""
