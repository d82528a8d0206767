"""Intermediate outputs: taken by name, computed no further than asked, and kept in tables."""
