"""The weights that come with cnnzoo, as safetensors files."""
