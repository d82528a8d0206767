"""Outputs of layers inside a network, and tables of features of folders of images."""
