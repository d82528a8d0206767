"""Published weights: what there is (`table.toml`), and how a file gets into a network (`load.py`)."""
