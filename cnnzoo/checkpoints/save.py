"""Saving a network to a folder, as the Hugging Face Hub has them: weights, configuration and a card."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from cnnzoo import __version__
from cnnzoo.checkpoints.folder import CONFIG, WEIGHTS, config_of
from cnnzoo.checkpoints.table import Checkpoint
from cnnzoo.checkpoints.weights import write_weights
from cnnzoo.cnn import CNN
from cnnzoo.errors import CheckpointError, operation
from cnnzoo.registry import find
from cnnzoo.support.files import plain, replacing
from cnnzoo.support.wrappers import inside


@operation
def save_pretrained(model: CNN, folder: Path | str) -> None:
    """Write a network to a folder: `model.safetensors`, `config.json` and `README.md`.

    `load_pretrained(folder)` gives the same network, bit for bit. Each file is written aside and renamed over the old
    one, so that a network that maps it keeps what it has.

    Args:
        model: from `create`, a constructor or `load_pretrained`.
        folder: made where it is missing.

    Raises:
        CheckpointError: the network was put together by hand, and no constructor could build it again.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.save_pretrained(cnnzoo.create("lenet5", num_classes=3, seed=0), "mine")
        >>> cnnzoo.load_pretrained("mine").num_classes
        3
    """
    model = inside(model)
    if getattr(model, "config", None) is None:
        raise CheckpointError(
            f"this {type(model).__name__} was put together by hand, and no constructor could build it "
            "again; register one with cnnzoo.register, or keep its state_dict"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(model, folder / WEIGHTS)
    for name, text in ((CONFIG, json.dumps(config_of(model), indent=1) + "\n"), ("README.md", card(model))):
        with replacing(folder / name) as aside:
            aside.write_text(text, "utf-8")


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
        Path(folder, "README.md").write_text(card(model, f"{repo_id!r}, hub=True"), "utf-8")
        return push(Path(folder), repo_id, private=private, token=token, message=message)


def _origin(network: str, known: Checkpoint) -> str:
    """What is known of weights: published ones have a tag, others the recipe that trained them."""
    made = f"Made from `{network}.{known.tag}`. " if known.source else ""
    return f"{made}{known.card}".strip()


def card(model: CNN, place: str = "'folder/'") -> str:
    """The model card: what the network is, how to load it from a place, and what is known of its weights."""
    assert model.config is not None
    spec = find(model.config.name)
    arguments = "".join(f"- `{name}={plain(value)!r}`\n" for name, value in model.config.options.items())
    known = model.checkpoint
    origin = "" if known is None else f"\n## Weights\n\n{_origin(spec.name, known)}\n"
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
