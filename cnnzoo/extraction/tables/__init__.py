"""Features of folders of pictures, as tables on disk."""
