"""LeNet-5, the convolutional network that read bank cheques.

LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition" (1998), trained
convolutions and sub-sampling end to end on 32x32 images of digits. `lenet5(classic=True)` is that network;
`lenet5()` is what the name means today.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from cnnzoo.cnn import CNN
from cnnzoo.errors import OptionError, operation
from cnnzoo.nn import ConnectionTable, ConnectionTableConv2d, RBFOutput, ScaledTanh, Subsample
from cnnzoo.nn.layers import Conv2d, Linear
from cnnzoo.registry import Paper, register
from cnnzoo.support.torch_private import children_of

__all__ = ["DIGIT_CODES", "TABLE_I", "LeNet5", "MAPLoss", "lenet5"]

PAPER = Paper("lenet")

TABLE_I: ConnectionTable = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
"""Table I: for each of the sixteen maps of C3, the maps of S2 that it sees."""

DIGIT_CODES = """
.#####. ...##.. .#####. ####### .#####. .#####. ..####. ####### .#####. .#####.
....... ..###.. ....... .....## ....... ....... .##.... .....## ##...## ##..###
..###.. .####.. .#####. ....##. ....... ####### ##..... .....## ##...## ##...##
.##.##. ...##.. ##...## ...##.. .##..## ##..... ##..... ....##. ##...## ##...##
##...## ...##.. #....## ..####. .##..## ##..... ######. ...##.. .#####. ##..###
##...## ...##.. ....##. .....## ###..## .####.. ###..## ...##.. ##...## .######
##...## ...##.. ..###.. .....## ##...## ..####. ##...## ..##... ##...## .....##
##...## ...##.. .##.... .....## ##...## .....## ##...## ..##... ##...## .....##
.##.##. ...##.. ##..... ##...## ##..### ##...## ###..## ..##... ##...## ....##.
..###.. .###### ####### .#####. .###### .#####. .#####. ..##... .#####. .####..
....... ....... ....... ....... .....## ....... ....... ....... ....... .......
....... ....... ....... ....... .....## ....... ....... ....... ....... .......
"""
"""Figure 3: the digits 0 to 9 as 12 rows of 7 pixels, # for +1 and . for -1.

The bar over 0, 2, 4 and 5 is the paper's: it tells look-alikes such as 0 and O apart.
"""

Codes = Tensor | Sequence[Sequence[float]]
Activation = Literal["tanh", "relu", "sigmoid"]
Pool = Literal["avg", "max"]
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "scaled tanh": ScaledTanh}
POOLS = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d}


class LeNet5(CNN):
    """LeNet-5: images (N, in_channels, H, W) to scores (N, num_classes), through c1 s2 c3 s4 c5 f6 output."""

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        connections: ConnectionTable | Literal["dense"],
        activation: str,
        pool: str,
        codes: Tensor | None,
        field: int,
        init: str,
    ) -> None:
        maps = 16 if connections == "dense" else len(connections)
        squash = ACTIVATIONS[activation]
        name = activation.removeprefix("scaled ")

        def subsample(channels: int) -> nn.Module:
            return Subsample(channels) if pool == "subsample" else POOLS[pool](2)

        layers: dict[str, nn.Module] = {
            "c1": Conv2d(in_channels, 6, 5, padding=(32 - field) // 2),
            f"{name}1": squash(),
            "s2": subsample(6),
            f"{name}2": squash(),
            "c3": Conv2d(6, 16, 5) if connections == "dense" else ConnectionTableConv2d(6, connections, 5),
            f"{name}3": squash(),
            "s4": subsample(maps),
            f"{name}4": squash(),
            "c5": Conv2d(maps, 120, 5),
            f"{name}5": squash(),
            "flatten": nn.Flatten(),
            "f6": Linear(120, 84),
            f"{name}6": squash(),
        }
        if pool != "subsample":  # only the trainable sub-sampling of 1998 is squashed
            del layers[f"{name}2"], layers[f"{name}4"]
        if codes is not None:
            layers["output"] = RBFOutput(codes)
        super().__init__(
            layers,
            input_shape=(in_channels, field, field),
            head=("output", 84) if codes is None else None,
            num_classes=num_classes,
            init=init,
        )

    def reset_classifier(self, num_classes: int, codes: Codes | None = None) -> None:
        """Replace the last layer; the RBF layer of `classic=True` needs `codes`, (num_classes, 84)."""
        if self.config is None or not self.config.classic:
            return super().reset_classifier(num_classes)
        given = _codes(num_classes, codes) if num_classes else None
        children_of(self).pop("output", None)
        if given is not None:
            self.output = RBFOutput(given).to(next(self.parameters()))
        self._is_now(num_classes=num_classes, codes=codes)
        return None


@register(PAPER, input_shape=(1, 28, 28))
@operation
def lenet5(
    *,
    classic: bool = False,
    num_classes: int = 10,
    in_channels: int = 1,
    activation: Activation | None = None,
    pool: Pool | None = None,
    connections: ConnectionTable | Literal["dense"] | None = None,
    codes: Codes | None = None,
) -> LeNet5:
    """LeNet-5 for 28x28 images, dense and with a linear output; `classic=True` is the network of 1998.

    Args:
        classic: 32x32 images, the sparse C3 of Table I, trainable sub-sampling, 1.7159 tanh(2x/3), and an output
            layer of radial basis functions: 60,000 trainable parameters. Train it with `MAPLoss`.
        num_classes: number of scores; 0 ends the network at the 84 features of F6.
        in_channels: 1 for grey images, 3 for colour.
        activation: `"tanh"` (default), `"relu"` or `"sigmoid"`; not with `classic`.
        pool: `"avg"` (default) or `"max"`; not with `classic`.
        connections: for each map of C3 the maps of S2 that it sees, or `"dense"`. By default `TABLE_I` with
            `classic`, else `"dense"`.
        codes: (num_classes, 84), the code of each class for the RBF layer; by default the ten digits of Figure 3.
            Only with `classic`.

    Raises:
        OptionError: an option does not go with `classic`, or other than ten classes came without their codes.

    Source: LeCun et al. 1998, section II-B, Figure 2 and Table I.
    """
    if not classic:
        if codes is not None:
            raise OptionError("codes= belongs to the RBF output of lenet5(classic=True); the default output is linear")
        activation, pool = activation or "tanh", pool or "avg"
        _choice("activation", activation, Activation.__args__)
        _choice("pool", pool, Pool.__args__)
        return LeNet5(
            num_classes=num_classes,
            in_channels=in_channels,
            connections=connections or "dense",
            activation=activation,
            pool=pool,
            codes=None,
            field=28,
            init="he2015" if activation == "relu" else "glorot2010",
        )
    for option, value in (("activation", activation), ("pool", pool)):
        if value is not None:
            raise OptionError(
                f"{option}={value!r} does not go with classic=True, which is the network of 1998 as printed; "
                f"leave one of them out"
            )
    return LeNet5(
        num_classes=num_classes,
        in_channels=in_channels,
        connections=connections or TABLE_I,
        activation="scaled tanh",
        pool="subsample",
        codes=_codes(num_classes, codes) if num_classes else None,
        field=32,
        init="lecun1998",
    )


class MAPLoss(nn.Module):
    """The maximum a posteriori criterion: scores (N, classes) and targets (N,) to a scalar.

    With penalties y = -scores, the mean of y_target + log(exp(-j) + sum_i exp(-y_i)): besides pulling the right
    class closer, it pushes the others away, until they are as far as a "rubbish" class of constant penalty j.

    Args:
        j: a positive constant, for which the paper gives no value.

    Source: LeCun et al. 1998, equation 9.
    """

    def __init__(self, j: float) -> None:
        super().__init__()
        if j <= 0:
            raise OptionError(f"MAPLoss: got j={j}; it is a positive constant (LeCun et al. 1998, equation 9)")
        self.j = j

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        with_rubbish = torch.cat([scores, scores.new_full((len(scores), 1), -self.j)], dim=1)
        right = scores.gather(1, target.unsqueeze(1)).squeeze(1)
        return (with_rubbish.logsumexp(1) - right).mean()

    def extra_repr(self) -> str:
        return f"j={self.j}"


def digit_codes() -> Tensor:
    """The ten bitmaps of Figure 3 as codes of +1 and -1, (10, 84)."""
    rows = [line.split() for line in DIGIT_CODES.split("\n") if line]
    digits = ("".join(column) for column in zip(*rows, strict=True))
    pixels = [[1.0 if pixel == "#" else -1.0 for pixel in digit] for digit in digits]
    return torch.tensor(pixels, device="cpu")


def _codes(num_classes: int, codes: Codes | None) -> Tensor:
    if codes is None and num_classes == 10:
        return digit_codes()
    given = None if codes is None else torch.as_tensor(codes, device="cpu")
    if given is None or tuple(given.shape) != (num_classes, 84):
        got = "none" if given is None else f"codes of shape {tuple(given.shape)}"
        raise OptionError(
            f"{num_classes} classes with classic=True need codes= of shape ({num_classes}, 84), a bitmap "
            f"of 12 rows of 7 pixels in +1 and -1 for each class; got {got}. The paper has codes for ten digits only; "
            f"classic=False takes any number of classes"
        )
    return given


def _choice(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise OptionError(f"got {option}={value!r}; it is one of {', '.join(map(repr, choices))}")
