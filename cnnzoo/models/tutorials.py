"""The small networks that textbooks and tutorials teach with, under the names their code gives the layers.

They are from Chinese and English course material of 2017 to 2021; `papers/tutorials.toml` says which is from where.
`convnet` is the general pattern that all of them follow.
"""

from collections.abc import Sequence
from functools import partial

from torch import Generator, Tensor, nn

from cnnzoo.cnn import CNN
from cnnzoo.errors import OptionError, operation
from cnnzoo.initialization import Layers, normal, torch_default
from cnnzoo.nn import BasicBlock
from cnnzoo.registry import Paper, register
from cnnzoo.shapes.formula import output_size

__all__ = [
    "convnet",
    "tutorial_cifar_lenet",
    "tutorial_cifar_resnet",
    "tutorial_lenet5_linear",
    "tutorial_lenet5_sigmoid",
    "tutorial_mnist_cnn",
    "tutorial_mnist_cnn_small",
    "tutorial_simple_cnn",
]

PAPER = Paper("tutorials")


def named(**layers: nn.Module) -> nn.Sequential:
    """A part of a chain with names of its own."""
    part = nn.Sequential()
    for name, layer in layers.items():
        part.add_module(name, layer)
    return part


def xavier_weights(layers: Layers, generator: Generator | None = None) -> None:
    """As textbooks do after `nn.init.xavier_uniform_(layer.weight)`: the biases stay as torch draws them."""
    torch_default(layers, generator)
    for layer in layers:
        assert isinstance(layer.weight, Tensor)
        nn.init.xavier_uniform_(layer.weight, generator=generator)


@register(PAPER, input_shape=(3, 32, 32))
def tutorial_simple_cnn(*, num_classes: int = 10, in_channels: int = 3) -> CNN:
    """Three convolutions and three linear layers: the first network of a textbook's chapter on convolutions."""

    def stage(i: int, inputs: int, outputs: int) -> nn.Sequential:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        return named(**{f"conv{i}": convolution, f"relu{i}": nn.ReLU(inplace=True), f"pool{i}": nn.MaxPool2d(2)})

    return CNN(
        {
            "layer1": stage(1, in_channels, 32),
            "layer2": stage(2, 32, 64),
            "layer3": stage(3, 64, 128),
            "flatten": nn.Flatten(),
            "layer4": named(fc1=nn.Linear(2048, 512), fc_relu1=nn.ReLU(), fc2=nn.Linear(512, 64), fc_relu2=nn.ReLU()),
        },
        input_shape=(in_channels, 32, 32),
        head=("layer4.fc3", 64),
        num_classes=num_classes,
    )


@register(PAPER, input_shape=(1, 28, 28))
def tutorial_mnist_cnn(*, num_classes: int = 10, in_channels: int = 1) -> CNN:
    """Four batch-normalised convolutions without padding and three linear layers; published: 99.31 % on MNIST."""

    def stage(inputs: int, outputs: int, *, pool: bool) -> nn.Sequential:
        layers = [nn.Conv2d(inputs, outputs, 3), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))

    return CNN(
        {
            "layer1": stage(in_channels, 16, pool=False),
            "layer2": stage(16, 32, pool=True),
            "layer3": stage(32, 64, pool=False),
            "layer4": stage(64, 128, pool=True),
            "flatten": nn.Flatten(),
            "fc": nn.Sequential(nn.Linear(2048, 1024), nn.ReLU(), nn.Linear(1024, 128), nn.ReLU()),
        },
        input_shape=(in_channels, 28, 28),
        head=("fc.4", 128),
        num_classes=num_classes,
    )


@register(PAPER, input_shape=(1, 28, 28))
def tutorial_mnist_cnn_small(*, num_classes: int = 10, in_channels: int = 1) -> CNN:
    """Two batch-normalised 5x5 convolutions and one linear layer."""

    def stage(inputs: int, outputs: int) -> nn.Sequential:
        convolution = nn.Conv2d(inputs, outputs, 5, padding=2)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))

    layers = {"conv1": stage(in_channels, 16), "conv2": stage(16, 32), "flatten": nn.Flatten()}
    return CNN(layers, input_shape=(in_channels, 28, 28), head=("fc", 32 * 7 * 7), num_classes=num_classes)


@register(PAPER, input_shape=(3, 32, 32))
def tutorial_cifar_lenet(*, num_classes: int = 10, in_channels: int = 3) -> CNN:
    """LeNet-5's widths with rectifiers and max pooling, for CIFAR-10: the network of torch's own tutorial."""
    return CNN(
        {
            "conv1": nn.Conv2d(in_channels, 6, 5),
            "relu1": nn.ReLU(),
            "pool_1": nn.MaxPool2d(2),
            "conv2": nn.Conv2d(6, 16, 5),
            "relu2": nn.ReLU(),
            "pool_2": nn.MaxPool2d(2),
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(16 * 5 * 5, 120),
            "relu3": nn.ReLU(),
            "fc2": nn.Linear(120, 84),
            "relu4": nn.ReLU(),
        },
        input_shape=(in_channels, 32, 32),
        head=("fc3", 84),
        num_classes=num_classes,
    )


@register(PAPER, input_shape=(1, 28, 28))
def tutorial_lenet5_sigmoid(*, num_classes: int = 10, in_channels: int = 1) -> CNN:
    """LeNet-5 as a textbook draws it: sigmoid, average pooling, and no sigmoid after the second convolution.

    Published on Fashion-MNIST (Xavier uniform, SGD 0.9, batch 256, 10 epochs): train 0.872, test 0.852.
    """
    return CNN(
        {
            "conv1": nn.Conv2d(in_channels, 6, 5, padding=2),
            "sig1": nn.Sigmoid(),
            "pool1": nn.AvgPool2d(2),
            "conv2": nn.Conv2d(6, 16, 5),
            "pool2": nn.AvgPool2d(2),
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(16 * 5 * 5, 120),
            "sig3": nn.Sigmoid(),
            "fc2": nn.Linear(120, 84),
            "sig4": nn.Sigmoid(),
        },
        input_shape=(in_channels, 28, 28),
        head=("fc3", 84),
        num_classes=num_classes,
        init=xavier_weights,
    )


@register(PAPER, input_shape=(1, 28, 28))
def tutorial_lenet5_linear(*, num_classes: int = 10, in_channels: int = 1) -> CNN:
    """LeNet-5 as another textbook prints it: 3x3 first, max pooling, no activation at all (and a pool named poo2)."""
    return CNN(
        {
            "layer1": named(conv1=nn.Conv2d(in_channels, 6, 3, padding=1), pool1=nn.MaxPool2d(2)),
            "layer2": named(conv2=nn.Conv2d(6, 16, 5), poo2=nn.MaxPool2d(2)),
            "flatten": nn.Flatten(),
            "layer3": named(fc1=nn.Linear(16 * 5 * 5, 120), fc2=nn.Linear(120, 84)),
        },
        input_shape=(in_channels, 28, 28),
        head=("layer3.fc3", 84),
        num_classes=num_classes,
    )


@register(PAPER, input_shape=(3, 32, 32))
def tutorial_cifar_resnet(*, num_classes: int = 10, in_channels: int = 3) -> CNN:
    """Six basic blocks of 16, 32 and 64 maps, with a 3x3 convolution as projection where the paper has 1x1.

    Published on CIFAR-10 after 50 epochs: train 93.6 %, validation 86.23 %.
    """

    def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        projection = None
        if stride != 1 or inputs != outputs:
            projection = nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs)
            )
        return nn.Sequential(BasicBlock(inputs, outputs, stride, projection), BasicBlock(outputs, outputs))

    return CNN(
        {
            "conv": nn.Conv2d(in_channels, 16, 3, padding=1, bias=False),
            "bn": nn.BatchNorm2d(16),
            "relu": nn.ReLU(inplace=True),
            "layer1": stage(16, 16, 1),
            "layer2": stage(16, 32, 2),
            "layer3": stage(32, 64, 2),
            "avg_pool": nn.AvgPool2d(8),
            "flat": nn.Flatten(),
        },
        input_shape=(in_channels, 32, 32),
        head=("fc", 64),
        num_classes=num_classes,
    )


@register(Paper("cnnzoo"), input_shape=(3, 32, 32))
@operation
def convnet(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: tuple[int, int] = (32, 32),
    filters: Sequence[int] = (32, 64),
    convolutions: int = 1,
    kernel_size: int = 3,
    stride: int = 1,
    padding: int | None = None,
    pool: int = 2,
    hidden: Sequence[int] = (128,),
    weight_std: float | None = None,
) -> CNN:
    """The general pattern: INPUT -> [[CONV -> RELU] x N -> POOL?] x M -> [FC -> RELU] x K -> FC.

    Args:
        num_classes: number of scores; 0 ends the network before the last FC.
        in_channels: channels of the images.
        image_size: (height, width) of the images.
        filters: filters of each stage's convolutions; its length is M.
        convolutions: N, convolutions in a stage.
        kernel_size: of every convolution.
        stride: of every convolution.
        padding: of every convolution; by default what keeps the size at stride 1, (kernel_size - 1) / 2.
        pool: window and stride of the max pooling that closes a stage; 1 for none.
        hidden: units of each hidden FC; its length is K.
        weight_std: standard deviation of all weights at the start, with zero biases; by default He et al. 2015.

    Raises:
        ShapeError: the image is too small for so many stages.
    """
    if weight_std is not None and weight_std <= 0:
        raise OptionError(f"got weight_std={weight_std}; a standard deviation is positive")
    padding = (kernel_size - 1) // 2 if padding is None else padding
    layers: dict[str, nn.Module] = {}
    inputs, size = in_channels, image_size
    for stage, outputs in enumerate(filters, 1):
        for i in range(1, convolutions + 1):
            layers[f"conv{stage}_{i}"] = nn.Conv2d(inputs, outputs, kernel_size, stride, padding)
            layers[f"relu{stage}_{i}"] = nn.ReLU(inplace=True)
            inputs, size = outputs, output_size(size, kernel_size, stride=stride, padding=padding)
        if pool > 1:
            layers[f"pool{stage}"] = nn.MaxPool2d(pool)
            size = output_size(size, pool, stride=pool)
    layers["flatten"] = nn.Flatten()
    features = inputs * size[0] * size[1]
    for i, units in enumerate(hidden, 1):
        layers[f"fc{i}"] = nn.Linear(features, units)
        layers[f"fc_relu{i}"] = nn.ReLU(inplace=True)
        features = units
    return CNN(
        layers,
        input_shape=(in_channels, *image_size),
        head=(f"fc{len(hidden) + 1}", features),
        num_classes=num_classes,
        init="he2015" if weight_std is None else partial(normal, std=weight_std),
    )
