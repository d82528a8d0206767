"""Pictures: what turns one into a network's input, the data sets of the recipes, and ten samples."""
