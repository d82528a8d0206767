"""The tutorials' networks against the code that their books print, and the general pattern."""

import pytest
import torch
from torch import nn

import cnnzoo


def test_no_sigmoid_after_the_second_convolution() -> None:
    kinds = [type(m).__name__ for m in cnnzoo.tutorial_lenet5_sigmoid()]
    assert kinds == [
        *("Conv2d", "Sigmoid", "AvgPool2d", "Conv2d", "AvgPool2d", "Flatten"),
        *("Linear", "Sigmoid", "Linear", "Sigmoid", "Linear"),
    ]


def test_linear_lenet_is_linear() -> None:
    model = cnnzoo.create("tutorial_lenet5_linear", seed=0, dtype=torch.float64)
    assert not any(isinstance(m, (nn.ReLU, nn.Tanh, nn.Sigmoid)) for m in model.modules())
    assert isinstance(model.layer2.poo2, nn.MaxPool2d)


def test_sigmoid_lenet_starts_as_its_textbook_does() -> None:
    model = cnnzoo.create("tutorial_lenet5_sigmoid", seed=0)
    bound = (6 / (400 + 120)) ** 0.5
    assert 0.95 * bound < model.fc1.weight.abs().max() <= bound
    assert 0 < model.fc1.bias.abs().max() <= 400**-0.5  # torch's own, not zero


def test_cifar_resnet_projects_with_3x3() -> None:
    model = cnnzoo.create("tutorial_cifar_resnet", device="meta")
    assert model.layer2[0].downsample[0].kernel_size == (3, 3)
    assert model.layer1[0].downsample is None
    assert len(cnnzoo.layers(model, "BasicBlock")) == 6


def test_basic_block_by_hand() -> None:
    block = cnnzoo.nn.BasicBlock(4, 4).double().eval()
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    inner = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
    assert torch.allclose(block(x), torch.relu(inner + x))


def test_convnet_counts() -> None:
    model = cnnzoo.convnet(filters=(8, 16, 32), convolutions=2, hidden=(50, 20), num_classes=7, image_size=(40, 24))
    assert [n for n in dict(model.named_children()) if n.startswith("conv")] == [
        *("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2")
    ]
    assert model.fc1.in_features == 32 * 5 * 3
    assert model(torch.zeros(1, 3, 40, 24)).shape == (1, 7)


def test_convnet_without_pooling_or_hidden_layers() -> None:
    model = cnnzoo.convnet(filters=[4], pool=1, hidden=(), kernel_size=5, stride=2, padding=0)
    assert list(dict(model.named_children())) == ["conv1_1", "relu1_1", "flatten", "fc1"]
    assert model.fc1.in_features == 4 * 14 * 14


def test_convnet_weight_std() -> None:
    model = cnnzoo.create("convnet", weight_std=0.003, seed=0)
    assert model.fc1.weight.std().item() == pytest.approx(0.003, rel=0.02)
    assert not model.fc1.bias.any()
    model.reset_classifier(10)
    assert model.fc2.weight.std().item() == pytest.approx(0.003, rel=0.1)


def test_convnet_bad_input() -> None:
    with pytest.raises(cnnzoo.OptionError, match=r"convnet: got weight_std=-1; a standard deviation is positive"):
        cnnzoo.convnet(weight_std=-1)
    with pytest.raises(cnnzoo.ShapeError, match=r"floor\(\(1 \+ 2\*0 - 1\*\(2 - 1\) - 1\) / 2\) \+ 1 = 0"):
        cnnzoo.convnet(filters=[4] * 6)
