"""Training recipes as data (`*.toml`), and the one loop that runs them."""
