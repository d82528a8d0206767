"""Training recipes as data, the loop that runs them, and what recipes are made of."""

from cnnzoo.training.augmentation import Distort, Flip, PrincipalColors, RandomCrop, RandomResizedCrop
from cnnzoo.training.evaluation import Measures, evaluate
from cnnzoo.training.loop import Run, train
from cnnzoo.training.losses import CTC, CrossEntropy, MultiLabelSoftMargin
from cnnzoo.training.recipe import Recipe, list_recipes, load_recipe
from cnnzoo.training.results import Result
from cnnzoo.training.schedules import Cosine, Decay, Piecewise, Plateau, Schedule
from cnnzoo.training.sdlm import SDLM, curvature
from cnnzoo.training.state import Epoch

__all__ = [
    "CTC",
    "SDLM",
    "Cosine",
    "CrossEntropy",
    "Decay",
    "Distort",
    "Epoch",
    "Flip",
    "Measures",
    "MultiLabelSoftMargin",
    "Piecewise",
    "Plateau",
    "PrincipalColors",
    "RandomCrop",
    "RandomResizedCrop",
    "Recipe",
    "Result",
    "Run",
    "Schedule",
    "curvature",
    "evaluate",
    "list_recipes",
    "load_recipe",
    "train",
]
