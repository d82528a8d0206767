"""Whether a network fits a recipe and its images; the message names the setting that does not."""

from cnnzoo.cnn import CNN
from cnnzoo.data.images import ImageSet
from cnnzoo.errors import CheckpointError, OptionError
from cnnzoo.models.captcha import CaptchaCNN
from cnnzoo.reader import CaptchaReader
from cnnzoo.registry import find
from cnnzoo.support.text import counted
from cnnzoo.training.batches import Split
from cnnzoo.training.recipe import Recipe


def require_network(recipe: Recipe, model: CNN) -> None:
    """Raise unless a network with weights is that of a recipe.

    Raises:
        CheckpointError: it is another one.
    """
    spec, config = recipe.spec, model.config
    if config is None or config.name != spec.name or not spec.is_same(config.options, recipe.options):
        got = "a network put together by hand"
        if config is not None:
            defaults = find(config.name).parameters
            stated = {key: value for key, value in config.options.items() if value != defaults[key].default}
            got = f"{config.name} with {spec.shown(stated)}"
        raise CheckpointError(
            f"recipe {recipe.name} is for {recipe.network} with {spec.shown(recipe.options)}; got {got}"
        )


def require_scores(model: CNN, split: Split) -> None:
    """Raise unless a network gives as many scores as a test set has classes.

    Raises:
        OptionError: it gives others.
    """
    positions = split.labels.shape[1] if isinstance(split, ImageSet) and split.labels.ndim == 2 else 1
    if isinstance(model, CaptchaReader):
        _require_reader(model, split, positions)
    elif model.num_classes != positions * len(split.classes):
        raise OptionError(
            f"{type(model).__name__} gives {model.num_classes} scores; the images show one of "
            f"{len(split.classes)} classes" + (f" at each of {positions} positions" if positions > 1 else "")
        )


def _require_reader(model: CaptchaReader, split: Split, positions: int) -> None:
    """Raise unless a network reads the texts of CAPTCHAs; the message names the setting that is wrong."""
    name, shown = type(model).__name__, "".join(split.classes)
    if model.charset != shown:
        raise OptionError(
            f"{name} reads the characters {model.charset!r} (options.charset), and the images show {shown!r} "
            "(data.charset); leave out options.charset, which then follows from the images, or state both alike"
        )
    shorter = isinstance(split, ImageSet) and bool((split.labels < 0).any())
    if isinstance(model, CaptchaCNN) and (shorter or model.length != positions):
        found = f"{positions} or fewer" if shorter else str(positions)
        remedy = "captcha_crnn reads texts of any length" if shorter else "leave out options.length"
        raise OptionError(
            f"{name} reads {counted(model.length, 'character')} (options.length), and the images show {found}; {remedy}"
        )


def require_size(recipe: Recipe, model: CNN) -> None:
    """Raise unless images that are as large as recipe says fit a network that takes one size."""
    if isinstance(model, CaptchaReader) and model.input_shape != recipe.preprocessing.input_shape:
        made, given = (
            "x".join(map(str, shape[1:])) for shape in (model.input_shape or (), recipe.preprocessing.input_shape)
        )
        raise OptionError(
            f"{type(model).__name__} is made for {made} pixels (options.image_size), and the images are "
            f"{given}; leave out options.image_size, which follows from preprocessing.size, or from the images"
        )
