"""Fitting published weights to a network of other channels or classes."""

from collections.abc import Collection, Iterator, Mapping

from torch import Tensor, nn

from cnnzoo.cnn import CNN, AuxiliaryCNN


def adapt(
    model: CNN, tensors: Mapping[str, Tensor], asked: Collection[str], *, reads_others: bool = False
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors as this network can take them, and the layers that have to start afresh.

    The first convolution takes other channels: one is the sum over the filters, so that a grey image scores as its
    copy in three channels would; n repeat the filters and are rescaled, so that the sums keep their size. A last
    layer for another number of classes, or for other characters, starts afresh. Auxiliary classifiers that the network
    does not have are left out, and those that the weights do not have start afresh.

    Args:
        model: what they are for; it may be on the meta device.
        tensors: of the network that the weights were made with, by our names.
        asked: the arguments that were asked for. Only they adapt anything, `in_channels`, `num_classes` and `aux`;
            what differs otherwise is left to be found.
        reads_others: whether a CAPTCHA network is to read other texts than it was trained on.
    """
    fitted = {name: tensor for name, tensor in tensors.items() if not _superfluous(name, model)}
    fresh = []
    for prefix, chain in _classifiers(model):
        if prefix and not any(name.startswith(prefix) for name in fitted):
            fresh += [prefix.removesuffix(".")] if "aux" in asked else []
        elif chain.head is not None and chain.num_classes and (reads_others or "num_classes" in asked):
            layer = prefix + chain.head[0]
            weight = fitted.get(f"{layer}.weight")
            if weight is None or reads_others or (weight.ndim and len(weight) != chain.num_classes):
                fresh.append(layer)
    left = tuple(f"{layer}." for layer in fresh)
    fitted = {name: tensor for name, tensor in fitted.items() if not name.startswith(left)}
    first = next((name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)), None)
    weight = fitted.get(f"{first}.weight")
    if weight is not None and weight.ndim == 4 and weight.shape[1] and "in_channels" in asked:
        fitted[f"{first}.weight"] = to_channels(weight, model.get_parameter(f"{first}.weight").shape[1])
    return fitted, fresh


def to_channels(weight: Tensor, channels: int) -> Tensor:
    """The filters (out, in, K, K) of a first convolution for images of another number of channels."""
    known = weight.shape[1]
    if channels == known:
        return weight
    if channels == 1:
        return weight.sum(1, keepdim=True)
    repeated = weight.repeat(1, -(-channels // known), 1, 1)[:, :channels]
    return repeated * (known / channels)


def _classifiers(model: CNN) -> Iterator[tuple[str, CNN]]:
    """The network and its auxiliary classifiers, by what their tensors' names begin with."""
    yield "", model
    for name, chain in model.aux.items() if isinstance(model, AuxiliaryCNN) else ():
        assert isinstance(chain, CNN)
        yield f"aux.{name}.", chain


def _superfluous(name: str, model: CNN) -> bool:
    """Whether a tensor is of a last layer or of auxiliary classifiers, which a network may do without."""
    if name.startswith("aux.") and isinstance(model, AuxiliaryCNN):
        return name.split(".")[1] not in model.aux
    return model.head is not None and not model.num_classes and name.startswith(f"{model.head[0]}.")
