"""Shapes without running: the output-size formula, and a probe that carries it through any network."""

from cnnzoo.shapes.probe import ShapeProbe as ShapeProbe
from cnnzoo.shapes.probe import rule as rule
