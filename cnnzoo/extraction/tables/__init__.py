"""Features of folders of images, as tables on disk."""
