"""Drawings of networks, from their shapes alone.

A probe that remembers which layer made it (`flow`) goes through the model's own `forward`; what ran becomes cards and
frames (`parts`), which get their places (`layout`) and are drawn as a graph (`graph`) or as boxes to scale (`volumes`).
"""
