"""CIFAR ResNets of other programs: the same classes, wherever their shortcuts put the zeros."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import cnnzoo


class Block(nn.Module):
    """Two convolutions; the shortcut takes every second pixel and pads `before` and `after` channels of zeros."""

    def __init__(self, channels_in: int, channels: int, stride: int, around: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        extra = channels - channels_in
        self.before, self.after = (extra // 2, extra - extra // 2) if around else (0, extra)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.before or self.after:
            x = torch.cat([torch.zeros_like(x[:, :1]).repeat(1, self.before, 1, 1), x], 1)
            x = torch.cat([x, torch.zeros_like(x[:, :1]).repeat(1, self.after, 1, 1)], 1)[:, :, ::2, ::2]
        return F.relu(x + y)


class Foreign(nn.Module):
    """The network as other programs write it, with names as they give them."""

    def __init__(self, n: int, *, around: bool, head: str, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = (16, 16, 32, 64)
        for stage in (1, 2, 3):
            before, now = widths[stage - 1], widths[stage]
            first = Block(before, now, 1 if stage == 1 else 2, around)
            setattr(self, f"layer{stage}", nn.Sequential(first, *(Block(now, now, 1, around) for _ in range(n - 1))))
        setattr(self, head, nn.Linear(64, num_classes))
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in (1, 2, 3):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.get_submodule(self.head)(x.mean((2, 3)))


def trained(n: int, **how: bool | str | int) -> Foreign:
    """One whose every number matters."""
    torch.manual_seed(0)
    model = Foreign(n, **how)  # pyright: ignore[reportArgumentType]
    for name, tensor in model.state_dict().items():
        if "bn" in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return model.eval()


def same_scores(ours: nn.Module, theirs: nn.Module) -> None:
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs(images)
        torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize(("name", "n"), [("cifar_resnet20", 3), ("cifar_resnet32", 5), ("cifar_resnet56", 9)])
def test_zeros_around_the_old_channels(tmp_path: Path, name: str, n: int) -> None:
    theirs = trained(n, around=True, head="linear")
    path = tmp_path / "resnet.th"
    torch.save({"state_dict": {f"module.{key}": value for key, value in theirs.state_dict().items()}}, path)
    ours = cnnzoo.load_pretrained(cnnzoo.ModelName(name), checkpoint=path)
    same_scores(ours, theirs)
    checkpoint = ours.checkpoint
    assert checkpoint.classes[9] == "truck"
    assert (checkpoint.preprocessing.size, checkpoint.preprocessing.std) == (32, (0.229, 0.224, 0.225))


@pytest.mark.parametrize("zero_channels", ["after", "around"])
@pytest.mark.parametrize("head", ["fc", "linear"])
def test_the_user_says_where_the_zeros_are(tmp_path: Path, zero_channels: str, head: str) -> None:
    theirs = trained(3, around=zero_channels == "around", head=head)
    path = tmp_path / "resnet.pth"
    torch.save(theirs.state_dict(), path)
    same_scores(
        cnnzoo.load_pretrained("cifar_resnet20", checkpoint=path, zero_channels=zero_channels),  # pyright: ignore
        theirs,
    )


def test_names_that_do_not_tell_where_the_zeros_are(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save(trained(3, around=True, head="fc").state_dict(), path)
    with pytest.raises(
        cnnzoo.CheckpointError,
        match=r"resnet\.pth holds weights of a CIFAR ResNet under the names of another program, .* the wrong choice gives "
        r"wrong classes without an error; state zero_channels='after' or zero_channels='around'",
    ):
        cnnzoo.load_pretrained("cifar_resnet20", checkpoint=path)
    with pytest.raises(cnnzoo.UnknownNameError, match=r"unknown place of zero_channels 'before': known: after, around"):
        cnnzoo.load_pretrained("cifar_resnet20", checkpoint=path, zero_channels="before")  # pyright: ignore


def test_other_classes_and_depths(tmp_path: Path) -> None:
    theirs = trained(3, around=True, head="linear", num_classes=7)
    path = tmp_path / "resnet.pth"
    torch.save(theirs.state_dict(), path)
    ours = cnnzoo.load_pretrained("cifar_resnet20", checkpoint=path, zero_channels="around", num_classes=7)
    same_scores(ours, theirs)
    with pytest.raises(cnnzoo.CheckpointError, match=r"missing: stage1\.3\.bn1"):
        cnnzoo.load_pretrained("cifar_resnet32", checkpoint=path, num_classes=7)


def test_own_names_and_projections_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    for shortcut in ("A", "B"):
        own = cnnzoo.create("cifar_resnet20", shortcut=shortcut, seed=0).eval()
        torch.save(own.state_dict(), path)
        same_scores(cnnzoo.load_pretrained("cifar_resnet20", checkpoint=path, shortcut=shortcut), own)
