"""What a network sees: its filters and maps, the part of an image that a unit sees, and what a score depends on.

Each function returns tensors, and each `plot_*` a plot of them, which needs matplotlib. Networks run in evaluation
mode and are left as they were; their parameters get no gradients.
"""

from cnnzoo.interpretation.attribution import class_activation_map, grad_cam, occlusion, saliency
from cnnzoo.interpretation.layers import Patch, filters, maps, patch
from cnnzoo.interpretation.plots import Plot, plot_filters, plot_heat, plot_maps, plot_patches

__all__ = [
    "Patch",
    "Plot",
    "class_activation_map",
    "filters",
    "grad_cam",
    "maps",
    "occlusion",
    "patch",
    "plot_filters",
    "plot_heat",
    "plot_maps",
    "plot_patches",
    "saliency",
]
