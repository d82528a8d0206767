"""Saving a network to a folder, as the Hugging Face Hub has them: weights, configuration and a card."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cnnzoo import __version__
from cnnzoo.checkpoints.folder import CONFIG, WEIGHTS, config_of, header
from cnnzoo.checkpoints.structure import described
from cnnzoo.checkpoints.table import Checkpoint
from cnnzoo.checkpoints.weights import write
from cnnzoo.cnn import CNN
from cnnzoo.data.preprocessing import Preprocessing
from cnnzoo.errors import OptionError, operation
from cnnzoo.reader import check_classes
from cnnzoo.registry import find
from cnnzoo.support.files import plain, replacing
from cnnzoo.support.wrappers import inside


@operation
def save_pretrained(
    model: CNN,
    folder: Path | str,
    *,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    accuracy: float | None = None,
    data: str | None = None,
    card: str | None = None,
) -> None:
    """Write a network to a folder: `model.safetensors`, `config.json` and `README.md`.

    `load_pretrained(folder)` gives the same network, bit for bit. Each file is written aside and renamed over the old
    one, so that a network that maps it keeps what it has.

    What is stated is kept as `model.checkpoint`, and is what `cnnzoo predict --model folder` needs of weights of your
    own. Weights that were trained further since they were loaded are said to be made from those; of what was known of
    them, only how images are prepared and the licence are kept.

    Args:
        model: from `create`, a constructor or `load_pretrained`. Its last layer may have been replaced by another
            linear one, and its batch normalisation folded.
        folder: made where it is missing.
        classes: the names of the classes, in the order of the scores.
        preprocessing: how the network wants its images, as it was trained with them.
        accuracy: share of the test set that is classified right, from 0 to 1.
        data: what it was trained on.
        card: how it was made, and what it is and is not good for, for the model card.

    Raises:
        CheckpointError: no constructor could build the network again: it was put together by hand, or layers,
            settings or hooks of it were changed; the message says which, and what to do.
        OptionError: there are more or fewer classes than scores, or nothing says how images are prepared.

    Examples:
        >>> import cnnzoo
        >>> model = cnnzoo.create("lenet5", num_classes=2, seed=0)  # and train it
        >>> images = cnnzoo.Preprocessing(channels=1, size=28, mean=0.1, std=0.3)
        >>> cnnzoo.save_pretrained(model, "mine", classes=["circle", "square"], preprocessing=images)
        >>> cnnzoo.load_pretrained("mine").checkpoint.classes
        ('circle', 'square')
    """
    model = inside(model)
    made = described(model)
    stated = {"class_set": classes and tuple(classes), "preprocessing": preprocessing, "accuracy": accuracy}
    stated |= {"data": data, "card": card}
    state(model, {name: value for name, value in stated.items() if value is not None})
    model.config = made.config
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(model.state_dict(), folder / WEIGHTS, header(made))
    config = json.dumps(config_of(made, model.checkpoint), indent=1) + "\n"
    for name, text in ((CONFIG, config), ("README.md", model_card(model))):
        with replacing(folder / name) as aside:
            aside.write_text(text, "utf-8")


def state(model: CNN, stated: dict[str, Any]) -> None:
    """Make what is stated of a network's weights its checkpoint.

    Raises:
        OptionError: there are more or fewer classes than scores, or nothing says how images are prepared.
    """
    if not stated:
        return
    check_classes(model, stated.get("class_set", ()))
    known = model.checkpoint
    if known is None and "preprocessing" not in stated:
        raise OptionError(
            "nothing says how this network wants its images, which are part of what is stated of weights; pass "
            "preprocessing=, such as that of the weights it was trained from"
        )
    model.checkpoint = replace(known or Checkpoint("", stated["preprocessing"]), **stated)


@operation
def push_to_hub(
    model: CNN,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    message: str = "Upload with cnnzoo",
) -> str:
    """Publish a network on the Hugging Face Hub, where `load_pretrained(repo_id, hub=True)` finds it.

    Args:
        model: from `create`, a constructor or `load_pretrained`.
        repo_id: `"owner/name"`; made where it is missing.
        private: whether a repository that is made is private.
        token: of the hub; by default the one that `hf auth login` stored.
        message: of the commit.

    Returns:
        The address of what was uploaded.

    Raises:
        CheckpointError: the hub refused, or could not be reached; the message says why.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.push_to_hub(cnnzoo.create("lenet5", seed=0), "owner/lenet5")  # doctest: +SKIP
    """
    from cnnzoo.checkpoints.hub import push

    model = inside(model)
    with TemporaryDirectory() as folder:
        save_pretrained(model, folder)
        Path(folder, "README.md").write_text(model_card(model, f"{repo_id!r}, hub=True"), "utf-8")
        return push(Path(folder), repo_id, private=private, token=token, message=message)


def _origin(network: str, known: Checkpoint) -> str:
    """What is known of weights: where they are from, what they tell apart, and how well."""
    whole = known.made_from == f"{network}.{known.tag}"
    made = f"{network}.{known.tag}" if known.source or whole else known.made_from
    from_others = "Made from" if known.source or whole else "Fine-tuned from"
    classes = known.classes
    listed = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
    is_new = not known.source and not known.recipe and not whole  # what others made has a card that says it all
    parts = [
        f"{from_others} `{made}`." if made else "",
        known.card,
        f"Trained on {known.data}." if is_new and known.data else "",
        f"Accuracy: {known.accuracy:.4f} of its test images." if is_new and known.accuracy is not None else "",
        f"{len(classes)} classes: {listed}." if is_new and classes else "",
    ]
    return " ".join(part for part in parts if part)


def model_card(model: CNN, place: str = "'folder/'") -> str:
    """The model card: what the network is, how to load it from a place, and what is known of its weights."""
    assert model.config is not None
    spec = find(model.config.name)
    arguments = "".join(f"- `{name}={plain(value)!r}`\n" for name, value in model.config.options.items())
    known = model.checkpoint
    said = "" if known is None else _origin(spec.name, known)
    origin = f"\n## Weights\n\n{said}\n" if said else ""
    license_line = f"license: {known.license.lower()}\n" if known is not None and known.license else ""
    variant = " (classic)" if model.config.classic else ""
    return f"""---
library_name: cnnzoo
tags: [image-classification, pytorch, cnnzoo]
{license_line}---

# {spec.name}{variant}

{spec.summary}

{sum(p.numel() for p in model.parameters()):,} parameters; made with cnnzoo {__version__} and these arguments:

{arguments}
```python
import cnnzoo

model = cnnzoo.load_pretrained({place})
```
{origin}
## Paper

{spec.paper.citation} {spec.paper.url}
"""
