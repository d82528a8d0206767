"""Shapes without running: the output-size formula, and a probe that carries it through any network."""
