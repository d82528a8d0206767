"""Getting weights into a network: mapped, checked as a whole, then assigned."""

from dataclasses import dataclass
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cnnzoo.checkpoints.files import plain, read_weights, stated_config
from cnnzoo.construction import Device, materialise, outline
from cnnzoo.data.pictures import class_names
from cnnzoo.data.preprocessing import Preprocessing
from cnnzoo.errors import CheckpointError, unknown
from cnnzoo.registry import ModelSpec, read_table

if TYPE_CHECKING:
    from torchvision.transforms.v2 import Compose


@dataclass(frozen=True)
class Checkpoint:
    """A published set of weights, a row of `table.toml`.

    Attributes:
        tag: its name among those of the network.
        file: in `checkpoints/bundled/`.
        layout: whose names the tensors carry.
        options: the constructor's arguments that the weights were made with.
        sha256: of the file.
        classes: the names of the classes, in the order of the scores.
        preprocessing: how the network wants its pictures.
        accuracy: share of the test set, as its publisher measured it.
        recipe: the training recipe that made it.
        data: what it was trained on, with origin and licence.
        license: of the weights.
        card: how they were made, and what they are and are not good for.
    """

    tag: str
    file: str
    layout: str
    options: dict[str, Any]
    sha256: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    accuracy: float
    recipe: str
    data: str
    license: str
    card: str

    def transforms(self) -> "Compose":
        """From a PIL picture or uint8 images to the network's input, as torchvision transforms."""
        return self.preprocessing.transforms()


def checkpoints(name: str) -> list[Checkpoint]:
    """The published weights of a network, the default first."""
    return [
        Checkpoint(
            **row
            | {
                "classes": class_names(row["classes"]),
                "preprocessing": Preprocessing(**row["preprocessing"]),
            }
        )
        for row in read_table("checkpoints/table.toml").get(name, ())
    ]


def published(spec: ModelSpec, tag: str | None, options: dict[str, Any]) -> Checkpoint:
    """The checkpoint of that tag; without one, the first made with these options."""
    known = checkpoints(spec.name)
    if tag is not None:
        named = next((one for one in known if one.tag == tag), None)
        if named is None:
            raise unknown(f"load_pretrained: {spec.name}", "checkpoint", tag, [one.tag for one in known])
        return named
    for one in known:
        if _same_network(spec, one.options, options):
            return one
    there = "; there are: " + ", ".join(f"{one.tag} ({_shown(one.options)})" for one in known) if known else ""
    raise CheckpointError(f"load_pretrained: there are no weights of {spec.name} with {_shown(options)}{there}")


def load(
    spec: ModelSpec, options: dict[str, Any], source: Path | Checkpoint, device: Device, dtype: torch.dtype | None
) -> nn.Module:
    """Build a network without allocating its parameters, and give it those of a file.

    The network is the one that the weights were made with, which the options must not contradict.
    """
    if isinstance(source, Checkpoint):
        with as_file(files("cnnzoo.checkpoints.bundled").joinpath(source.file)) as path:
            tensors, made_with = read_weights(path)[0], source.options
    else:
        path, made_with = source, None
        tensors, metadata = read_weights(path)
        if "name" in metadata:
            name, made_with = stated_config(metadata, path)
            if name != spec.name:
                raise CheckpointError(f"load_pretrained: {path} holds weights of {name}, not of {spec.name}")
            spec.check(made_with, f"load_pretrained: {path}")
    if made_with is None:  # tensors are all that is known
        made_with = options
    if not _same_network(spec, made_with, made_with | options):
        raise CheckpointError(
            f"load_pretrained: {path.name} was made with {_shown(made_with)}; got {_shown(options)}, another network"
        )
    model = outline(partial(spec.layout, **made_with | options))
    assign(model, tensors, path)
    if isinstance(source, Checkpoint):
        vars(model)["checkpoint"] = source
    target = torch.get_default_device() if device is None else torch.device(device)
    materialise(model, target, dtype, keep_statistics=True)
    return model.eval()


def assign(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Make these tensors the network's own, after all names, shapes and dtypes are checked.

    Raises:
        CheckpointError: something is missing, unexpected or misshapen; the network is as it was.
    """
    expected = model.state_dict()
    problems = [f"missing: {name} {tuple(expected[name].shape)}" for name in expected.keys() - tensors.keys()]
    problems += [f"unexpected: {name} {tuple(tensors[name].shape)}" for name in tensors.keys() - expected.keys()]
    for name in expected.keys() & tensors.keys():
        ours, theirs = expected[name], tensors[name]
        if ours.shape != theirs.shape:
            problems.append(f"shape of {name}: {tuple(theirs.shape)} in the file, {tuple(ours.shape)} in the network")
        elif ours.is_floating_point() != theirs.is_floating_point():
            problems.append(f"dtype of {name}: {theirs.dtype} in the file, {ours.dtype} in the network")
    if problems:
        listed = "; ".join(sorted(problems)[:8]) + ("; ..." if len(problems) > 8 else "")
        raise CheckpointError(
            f"load_pretrained: {path} does not fit {type(model).__name__} in {len(problems)} of {len(expected)} "
            f"tensors: {listed}"
        )
    model.load_state_dict(tensors, assign=True)


def _same_network(spec: ModelSpec, made_with: dict[str, Any], asked: dict[str, Any]) -> bool:
    defaults = {name: parameter.default for name, parameter in spec.parameters.items()}
    return plain(defaults | made_with) == plain(defaults | asked)


def _shown(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items()) or "its default arguments"
