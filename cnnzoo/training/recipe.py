"""What a training recipe states, and the file it stands in."""

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from cnnzoo.catalogue import LENGTH, recipe_length, recipe_table, recipes, without
from cnnzoo.data.captcha import ANY_LENGTH, FreshCaptchas
from cnnzoo.data.datasets import DATA_SETS
from cnnzoo.data.images import ImageSet, hold_out
from cnnzoo.data.preprocessing import Preprocessing
from cnnzoo.errors import CnnzooError, OptionError, operation, suggestion, unknown
from cnnzoo.initialization import SCHEMES, initialize
from cnnzoo.registry import ModelSpec, find
from cnnzoo.training.augmentation import AUGMENTATIONS, CROPS
from cnnzoo.training.batches import Split, Transforms
from cnnzoo.training.evaluation import Views
from cnnzoo.training.losses import LOSSES, Precision
from cnnzoo.training.schedules import SCHEDULES, Schedule
from cnnzoo.training.sdlm import SDLM

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sdlm": SDLM,
}

Stated = dict[str, Any]
"""A component chosen by name, with its arguments: `{"name": "sgd", "lr": 0.1}`."""


@dataclass(frozen=True)
class Recipe:
    """A training run as data; the files in `catalogue` hold those that come with cnnzoo.

    Attributes:
        name: the file's name.
        title: one line that says what it is for.
        network: the network's registered name.
        data: `name` of the data set and arguments of its function.
        preprocessing: from images to inputs.
        loss: `name` and arguments of the loss; `aux` is what those of auxiliary classifiers count.
        optimizer: `name` and arguments of the optimiser, the peak learning rate `lr` among them.
        batch_size: images in a step, of all processes together.
        epochs: passes over the training set; either these or `steps` are stated.
        steps: batches; the last epoch ends with the last of them.
        validation: images that are held out of the training set, by the run's seed, and measured beside the test set.
        options: arguments of the network's constructor. Where it takes `num_classes`, that follows from the data.
        init: the initialization, `name` and arguments; by default the network's own.
        crop: how a training image gets its size, `name` and arguments; by default as a test image does.
        augment: further changes of training images, each with `name` and arguments; those of colours come last.
        schedule: of the learning rate, `name` and arguments.
        decay: what `optimizer.weight_decay` shrinks: `all` parameters, or the `weights` of convolutions and linear
            layers without biases and normalisation.
        precision: of the forward pass: `float32`, or `bfloat16` where that does no harm (autocast).
        channels_last: whether images are stored channel by channel or pixel by pixel.
        compile: whether network and loss are compiled; worth it for long runs.
        views: what a test sees of each image: the `middle`, or `ten` crops whose probabilities are averaged.
        own_size: whether images keep the size that they have, which is then that of `preprocessing`: where a recipe for
            CAPTCHAs states none.
        published: what a publication reports for this run, with its source.
        differs: in what the recipe differs from the publication, or goes beyond what it states.
    """

    name: str
    title: str
    network: str
    data: Stated
    preprocessing: Preprocessing
    loss: Stated
    optimizer: Stated
    batch_size: int
    epochs: int | None = None
    steps: int | None = None
    validation: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    init: Stated | None = None
    crop: Stated | None = None
    augment: tuple[Stated, ...] = ()
    schedule: Stated = field(default_factory=lambda: {"name": "constant"})
    decay: Literal["all", "weights"] = "all"
    precision: Precision = "float32"
    channels_last: bool = False
    compile: bool = False
    views: Views = "middle"
    own_size: bool = False
    published: dict[str, Any] = field(default_factory=dict)
    differs: str = ""

    def __post_init__(self) -> None:
        own = f"recipe {self.name}"
        check(own, "data", self.data, DATA_SETS, given={"folder", "download"})
        check(own, "loss", self.loss, LOSSES, besides={"aux"})
        check(own, "optimizer", self.optimizer, OPTIMIZERS, given={"params"})
        check(own, "schedule", self.schedule, SCHEDULES)
        if self.init is not None:
            check(own, "init", self.init, SCHEMES, given={"layers", "generator"})
        if self.crop is not None:
            check(own, "crop", self.crop, CROPS)
        for one in self.augment:
            check(own, "augment", one, AUGMENTATIONS)
        for what, kinds in (
            ("decay", ("all", "weights")),
            ("precision", get_args(Precision)),
            ("views", get_args(Views)),
        ):
            if getattr(self, what) not in kinds:
                raise unknown(own, what, str(getattr(self, what)), kinds)
        if "lr" not in self.optimizer:
            raise OptionError(f"{own}: optimizer states no learning rate; add lr")
        if (self.epochs is None) == (self.steps is None):
            raise OptionError(f"{own}: got epochs={self.epochs} and steps={self.steps}; state one of them")
        for what in ("epochs", "steps", "batch_size"):
            value = getattr(self, what)
            if value is not None and not (type(value) is int and value >= 1):
                raise OptionError(f"{own}: got {what}={value!r}; it is a whole number of at least 1")
        if not (type(self.validation) is int and self.validation >= 0):
            raise OptionError(f"{own}: got validation={self.validation!r}; it is a number of training images, or 0")
        for made in (self.make_loss, self.make_schedule, self.make_transforms):
            made()  # which refuses values that cannot be

    def initialize(self, model: nn.Module, generator: torch.Generator) -> None:
        """Initialise a network as the recipe states, if it does."""
        if self.init is not None:
            stated = self.init
            initialize(model, lambda *layers: make(SCHEMES, stated, *layers), generator=generator)

    def make_loss(self) -> nn.Module:
        """The criterion: scores and labels to a scalar."""
        return make(LOSSES, self.loss, besides={"aux"})

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser over all parameters."""
        parameters: Any = list(model.parameters())
        if self.decay == "weights":
            spared = [parameter for parameter in parameters if parameter.ndim < 2]
            shrunk = [parameter for parameter in parameters if parameter.ndim >= 2]
            parameters = [{"params": shrunk}, {"params": spared, "weight_decay": 0.0}]
        return make(OPTIMIZERS, self.optimizer, parameters)

    def make_schedule(self) -> Schedule:
        """The schedule of the learning rate."""
        return make(SCHEDULES, self.schedule)

    def make_transforms(self) -> Transforms:
        """What becomes of training images."""
        crop = None if self.crop is None else make(CROPS, self.crop)
        return Transforms(self.preprocessing, crop, tuple(make(AUGMENTATIONS, one) for one in self.augment))

    def load_data(self, folder: Path | str | None = None, *, download: bool = False) -> dict[str, Split]:
        """The images to train (`"train"`) and to test on (`"test"`).

        CAPTCHAs that are drawn are of the characters, length and size that the network is made for, unless the recipe
        states others.
        """
        data = self.data
        if data["name"] == "captchas" and folder is None:
            data = self.captcha_facts() | data
        return make(DATA_SETS, data, folder, download=download)

    def captcha_facts(self) -> dict[str, Any]:
        """The characters, length and size of the CAPTCHAs that the network is made for."""
        takes = {name: one.default for name, one in find(self.network).parameters.items()} | self.options
        facts = {key: takes[key] for key in ("charset", "length") if key in takes}
        if "charset" in takes and "length" not in takes:
            facts["length"] = ANY_LENGTH
        if "image_size" in takes:
            facts["height"], facts["width"] = takes["image_size"]
        return facts

    def fitted(self, sets: Mapping[str, Split]) -> "Recipe":
        """The recipe with what follows from the images: the characters of CAPTCHAs, how many, and their size.

        What the recipe states of the network stays, and is compared with the images when it is trained.
        """
        test = sets["test"]
        if self.data["name"] != "captchas" or not isinstance(test, ImageSet):
            return self
        images = self.preprocessing
        if self.own_size:
            images = dataclasses.replace(images, size=tuple(test.images.shape[2:]))
        channels, *size = images.input_shape
        facts: dict[str, Any] = {
            "charset": "".join(test.classes),
            "length": test.labels.shape[1],
            "image_size": tuple(size),
            "in_channels": channels,
        }
        takes = find(self.network).parameters
        follow = {key: value for key, value in facts.items() if key in takes and takes[key].default != value}
        return dataclasses.replace(self, preprocessing=images, options=follow | self.options)

    def hold_out(self, sets: Mapping[str, Split], seed: int) -> dict[str, Split]:
        """Hold `validation` images out of the training set, as `"validation"`, unless the sets already have one.

        Raises:
            DataError: nothing is left to train on.
            OptionError: every epoch has new images, of which none can be held out.
        """
        if not self.validation or "validation" in sets:
            return dict(sets)
        training = sets["train"]
        if isinstance(training, FreshCaptchas):
            raise OptionError(
                f"recipe {self.name}: got validation={self.validation}, but every epoch has new images; set "
                "data.fresh=false or validation=0"
            )
        left, held_out = hold_out(training, self.validation, seed)
        return {**sets, "train": left, "validation": held_out}

    def options_for(self, classes: Sequence[str]) -> dict[str, Any]:
        """The network's arguments, with as many classes as there are where the network takes that."""
        spec = self.spec
        head = spec.parameters.get("num_classes")
        if head is None or "num_classes" in self.options or head.default == len(classes):
            return self.options
        return {**self.options, "num_classes": len(classes)}

    @property
    def spec(self) -> ModelSpec:
        """The registry's entry of its network, which takes its options."""
        spec = find(self.network, f"recipe {self.name}")
        spec.check(self.options, f"recipe {self.name}")
        return spec

    @property
    def length(self) -> str:
        """Of the run, in words."""
        return recipe_length({"epochs": self.epochs, "steps": self.steps})

    @property
    def stated(self) -> dict[str, Any]:
        """Everything that it states, as plain values."""
        return dataclasses.asdict(self)


@operation
def load_recipe(name: str, settings: Mapping[str, Any] | None = None, **changes: Any) -> Recipe:
    """Load a recipe that comes with cnnzoo, or one of your own.

    Args:
        name: of a recipe, or the path of a file that ends in `.toml`.
        settings: other values by dotted key, such as `{"optimizer.lr": 0.05}`.
        **changes: other values for whole fields. `epochs` takes the place of `steps`, and the other way round.

    Raises:
        UnknownNameError: there is no such recipe, key, network, data set, loss, ...
        OptionError: a value cannot be, or the file is not TOML.

    Examples:
        >>> import cnnzoo
        >>> recipe = cnnzoo.load_recipe("lenet5_mnist", {"optimizer.lr": 0.05}, epochs=3)
        >>> recipe.network, recipe.optimizer["lr"], recipe.length
        ('lenet5', 0.05, '3 epochs')
    """
    table = recipe_table(name)
    for key, value in {**(settings or {}), **changes}.items():
        if key in LENGTH:
            table = without(LENGTH, table)
        _set(table, key, value, name)
    known = {one.name for one in dataclasses.fields(Recipe)} - {"name"}
    for key in table:
        if key not in known:
            raise unknown(f"recipe {name}", "key", key, known)
    missing = [key for key in ("title", "network", "data", "loss", "optimizer", "batch_size") if key not in table]
    if missing:
        raise OptionError(f"recipe {name}: states no {', '.join(missing)}")
    stated = table.pop("preprocessing", {})
    if not isinstance(stated, Preprocessing):
        check(f"recipe {name}", "preprocessing", {"name": "", **stated}, {"": Preprocessing})
        if "size" not in stated and isinstance(table["data"], dict) and table["data"].get("name") == "captchas":
            options = find(table["network"], f"recipe {name}").parameters
            table["own_size"] = True
            size = table.get("options", {}).get("image_size") or options["image_size"].default
            stated = {**stated, "size": size}
        stated = Preprocessing(**stated)
    table["augment"] = tuple(table.get("augment", ()))
    return Recipe(name=Path(name).stem, preprocessing=stated, **table)


@operation
def list_recipes() -> list[str]:
    """List the recipes that come with cnnzoo, by name.

    Examples:
        >>> import cnnzoo
        >>> "lenet5_mnist" in cnnzoo.list_recipes()
        True
    """
    return list(recipes())


def _set(table: dict[str, Any], key: str, value: Any, recipe: str) -> None:
    """Give a dotted key another value."""
    *path, last = key.split(".")
    for part in path:
        inner = table.get(part, {})
        if not isinstance(inner, dict):
            raise OptionError(f"recipe {recipe}: {part} is not a table, so that there is no {key}")
        table[part] = table = dict(inner)
    table[last] = value


def check(
    operation: str,
    what: str,
    stated: Stated,
    kinds: Mapping[str, Callable[..., Any]],
    *,
    given: Collection[str] = (),
    besides: Collection[str] = (),
) -> None:
    """Raise unless a stated thing is of a known kind and has the arguments that this takes.

    Args:
        operation: for the message.
        what: likewise.
        stated: its name and arguments.
        kinds: what there is, by name.
        given: arguments that come from elsewhere.
        besides: arguments that are for somebody else.
    """
    if not isinstance(stated, dict) or "name" not in stated:
        remedy = (
            f"{what}.name={stated if stated in kinds else 'NAME'}" if isinstance(stated, str) else f"{what}.name=NAME"
        )
        folder = ", and --data for the folder with the images" if what == "data" else ""
        raise OptionError(
            f"{operation}: got {what}={stated!r}; it is a table with a name and arguments: set {remedy}{folder}, "
            f"with one of {', '.join(kinds)}"
        )
    name = stated["name"]
    if name not in kinds:
        raise unknown(operation, what, str(name), kinds)
    taken = {key: parameter for key, parameter in inspect.signature(kinds[name]).parameters.items() if key not in given}
    this = f"{operation}: {what} {name}".rstrip()
    for key in stated.keys() - {"name", *besides} - taken.keys():
        raise OptionError(f"{this} takes no {key!r}: {suggestion(key, taken)}")
    missing = [key for key, one in taken.items() if one.default is one.empty and key not in stated]
    if missing:
        raise OptionError(f"{this} needs {', '.join(missing)}")


def make(
    kinds: Mapping[str, Callable[..., Any]],
    stated: Stated,
    *arguments: Any,
    besides: Collection[str] = (),
    **given: Any,
) -> Any:
    """The stated thing itself.

    Raises:
        OptionError: an argument has a value that it cannot have.
    """
    own = {key: value for key, value in stated.items() if key not in ("name", *besides)}
    try:
        return kinds[stated["name"]](*arguments, **own, **given)
    except CnnzooError:
        raise
    except (TypeError, ValueError) as error:
        shown = ", ".join(f"{key}={value!r}" for key, value in own.items())
        raise OptionError(f"{stated['name']} cannot be made with {shown}: {error}") from None
