"""From a trained network to a fast one: folding, merging, choosing a backend, exporting, quantising."""
