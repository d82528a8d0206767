"""Loading, adapting and saving weights: what comes out computes what went in."""

import hashlib
import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from test_layouts import randomise
from torch import nn

import cnnzoo
from cnnzoo.checkpoints.adapt import to_channels
from cnnzoo.checkpoints.load import _as_it_is_now
from cnnzoo.checkpoints.locate import check_sha256, published
from cnnzoo.checkpoints.table import list_checkpoints
from cnnzoo.checkpoints.weights import write_weights
from cnnzoo.cli import main


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None)
    randomise(model)
    return model.eval()


def images(channels: int = 3, size: int = 64) -> torch.Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("nesting", ["plain", "state_dict", "module."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_torchvision_s_names_are_understood(
    theirs: nn.Module, tmp_path: Path, suffix: str, nesting: str, mmap: bool
) -> None:
    path = tmp_path / f"weights{suffix}"
    state = theirs.state_dict()
    if nesting == "module.":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    if suffix == ".pth":
        torch.save({"state_dict": state} if nesting == "state_dict" else state, path)
    else:
        save_file(state, path)
    model = cnnzoo.load_pretrained("resnet18", checkpoint=path, mmap=mmap)
    assert torch.equal(model(images()), theirs(images()))
    assert not model.training


def test_files_from_before_counters(theirs: nn.Module, tmp_path: Path) -> None:
    old = {name: tensor for name, tensor in theirs.state_dict().items() if "num_batches_tracked" not in name}
    torch.save(old, tmp_path / "old.pth")
    model = cnnzoo.load_pretrained("resnet18", checkpoint=tmp_path / "old.pth")
    assert torch.equal(model(images()), theirs(images()))
    assert model.bn1.num_batches_tracked == 0


def test_auxiliary_classifiers_come_and_go(tmp_path: Path) -> None:
    whole = cnnzoo.create("googlenet", aux=True, num_classes=5, seed=0).eval()
    plain = {name: tensor for name, tensor in whole.state_dict().items() if not name.startswith("aux.")}
    save_file(whole.state_dict(), tmp_path / "with.safetensors")
    save_file(plain, tmp_path / "without.safetensors")
    without = cnnzoo.load_pretrained("googlenet", checkpoint=tmp_path / "with.safetensors", num_classes=5)
    assert torch.equal(without(images()), whole(images()))
    both = cnnzoo.load_pretrained("googlenet", checkpoint=tmp_path / "with.safetensors", num_classes=5, aux=True)
    assert all(map(torch.equal, both.forward_with_aux(images(size=96)), whole.forward_with_aux(images(size=96))))
    with pytest.warns(
        cnnzoo.FreshLayerWarning,
        match=r"starts afresh: aux.inception_4a, aux.inception_4d; .* fits num_classes=5, aux=True;",
    ):
        fresh = cnnzoo.load_pretrained(
            "googlenet", checkpoint=tmp_path / "without.safetensors", num_classes=5, aux=True
        )
    assert torch.equal(fresh(images()), whole(images()))
    assert all(p.isfinite().all() and not p.is_meta for p in fresh.parameters())
    assert fresh.aux["inception_4a"].fc1.weight.std() > 0


def test_other_classes(tmp_path: Path) -> None:
    whole = cnnzoo.create("resnet18", seed=0).eval()
    cnnzoo.save_pretrained(whole, tmp_path)
    with pytest.warns(cnnzoo.FreshLayerWarning, match=r"resnet18: starts afresh: fc; .* fits num_classes=7; train it"):
        model = cnnzoo.load_pretrained(tmp_path, num_classes=7)
    assert model.config.options["num_classes"] == 7
    assert model.fc.weight.shape == (7, 512)
    assert model.fc.weight.std() > 0
    assert torch.equal(model[:-1](images()), whole[:-1](images()))
    features = cnnzoo.load_pretrained(tmp_path, num_classes=0)
    assert torch.equal(features(images()), whole[:-1](images()))


def test_other_channels(tmp_path: Path) -> None:
    whole = cnnzoo.create("resnet18", seed=0, num_classes=4).eval()
    cnnzoo.save_pretrained(whole, tmp_path)
    grey = cnnzoo.load_pretrained(tmp_path, in_channels=1)
    inputs = images(1)
    assert torch.allclose(grey(inputs), whole(inputs.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)
    assert grey.input_shape == (1, 224, 224)
    six = cnnzoo.load_pretrained(tmp_path, in_channels=6)
    # The same image twice in six channels gives what it gives once in three.
    twice = torch.cat([images(), images()], 1)
    assert torch.allclose(six(twice), whole(images()), rtol=1e-4, atol=1e-5)
    weight = torch.randn(2, 3, 1, 1)
    four = to_channels(weight, 4)
    assert torch.allclose(four, torch.cat([weight, weight[:, :1]], 1) * 3 / 4)
    assert to_channels(weight, 3) is weight


def test_save_and_load_bit_for_bit(tmp_path: Path) -> None:
    model = cnnzoo.create("googlenet", classic=True, num_classes=3, aux=True, dropout=0.1, seed=0, dtype=torch.float64)
    folder = tmp_path / "new" / "folder"
    cnnzoo.save_pretrained(model, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    config = json.loads((folder / "config.json").read_text())
    assert config["name"] == "googlenet"
    assert config["options"] == model.config.options
    assert config["library_version"] == cnnzoo.__version__
    text = (folder / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: cnnzoo\n")
    assert "Going Deeper with Convolutions" in text
    again = cnnzoo.load_pretrained(folder)
    assert again.config == model.config
    for (name, a), (other, b) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == other
        assert a.dtype == b.dtype
        assert torch.equal(a, b), name


def test_saving_over_what_is_mapped(tmp_path: Path) -> None:
    model = cnnzoo.create("lenet5", seed=0)
    cnnzoo.save_pretrained(model, tmp_path)
    mapped = cnnzoo.load_pretrained(tmp_path)
    before = mapped.c1.weight.clone()
    cnnzoo.save_pretrained(cnnzoo.create("lenet5", seed=1), tmp_path)
    assert torch.equal(mapped.c1.weight, before)
    assert not torch.equal(cnnzoo.load_pretrained(tmp_path).c1.weight, before)


def test_what_is_known_of_weights_is_saved_with_them(tmp_path: Path) -> None:
    cnnzoo.save_pretrained(cnnzoo.load_pretrained("lenet5"), tmp_path)
    again = cnnzoo.load_pretrained(tmp_path)
    assert again.checkpoint.classes[9] == "9"
    known = cnnzoo.load_pretrained("lenet5").checkpoint
    assert (again.checkpoint.tag, again.checkpoint.card) == (known.tag, known.card)
    assert (again.checkpoint.accuracy, again.checkpoint.license) == (known.accuracy, known.license)
    assert cnnzoo.load_pretrained(tmp_path, num_classes=0).checkpoint.classes == ()
    image = torch.randint(256, (1, 28, 28), dtype=torch.uint8)
    assert torch.equal(
        again.checkpoint.transforms()(image), cnnzoo.load_pretrained("lenet5").checkpoint.transforms()(image)
    )


def test_hand_made_chains_are_refused(tmp_path: Path) -> None:
    with pytest.raises(cnnzoo.CheckpointError, match=r"save_pretrained: this CNN was put together by hand"):
        cnnzoo.save_pretrained(cnnzoo.lenet5()[:3], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_equal_tensors_are_not_the_same_network(tmp_path: Path) -> None:
    cnnzoo.save_pretrained(cnnzoo.create("resnet50", classic=True, num_classes=2, init=False), tmp_path)
    assert cnnzoo.load_pretrained(tmp_path).config.classic
    with pytest.raises(cnnzoo.CheckpointError, match=r"made with classic=True.*; got classic=False, another network"):
        cnnzoo.load_pretrained(tmp_path, classic=False)
    with pytest.raises(cnnzoo.CheckpointError, match=r"holds weights of resnet50, not of resnet101"):
        cnnzoo.load_pretrained("resnet101", checkpoint=tmp_path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_export_for_torchvision(tmp_path: Path, suffix: str) -> None:
    model = cnnzoo.create("resnet18", seed=0).eval()
    cnnzoo.save_pretrained(model, tmp_path / "ours")
    out = tmp_path / f"theirs{suffix}"
    arguments = ["export-weights", str(tmp_path / "ours"), "--layout", "torchvision", "--out", str(out)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    peer = torchvision.models.resnet18(weights=None).eval()
    peer.load_state_dict(load_file(out) if suffix == ".safetensors" else torch.load(out, weights_only=True))
    assert torch.equal(peer(images()), model(images()))


def test_export_for_timm(tmp_path: Path) -> None:
    model = cnnzoo.create("preresnet18", seed=0).eval()
    cnnzoo.save_pretrained(model, tmp_path / "ours")
    out = tmp_path / "theirs.safetensors"
    arguments = ["export-weights", str(tmp_path / "ours"), "--layout", "timm", "--out", str(out)]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    peer = timm.create_model("resnetv2_18", pretrained=False, checkpoint_path=str(out)).eval()
    assert torch.allclose(peer(images()), model(images()), rtol=1e-4, atol=1e-4)


def test_hubconf_gives_every_network() -> None:
    root = Path(__file__).parent.parent
    script = (
        "import torch, cnnzoo\n"
        f"model = torch.hub.load({str(root)!r}, 'lenet5', source='local', pretrained=True)\n"
        "assert model.checkpoint.tag == 'mnist'\n"
        f"fresh = torch.hub.load({str(root)!r}, 'resnet18', source='local', num_classes=3)\n"
        "assert fresh.fc.out_features == 3\n"
        "import hubconf\n"
        "assert all(callable(getattr(hubconf, name)) for name in cnnzoo.list_models())\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root)


def test_fresh_layers_are_said_once(tmp_path: Path) -> None:
    cnnzoo.save_pretrained(cnnzoo.create("lenet5", seed=0), tmp_path)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for _ in range(2):
            cnnzoo.load_pretrained(tmp_path, num_classes=4)
    assert len([one for one in seen if one.category is cnnzoo.FreshLayerWarning]) == 1


def test_checksum_finds_four_changed_bytes(tmp_path: Path) -> None:
    assert cnnzoo.load_pretrained("lenet5", checksum=True).checkpoint.tag == "mnist"
    cnnzoo.save_pretrained(cnnzoo.create("lenet5", seed=0), tmp_path)
    content = bytearray((tmp_path / "model.safetensors").read_bytes())
    expected = hashlib.sha256(content).hexdigest()
    check_sha256(tmp_path / "model.safetensors", expected)
    check_sha256(tmp_path / "model.safetensors", expected[:8])
    content[-8:-4] = b"\0\0\0\0"
    (tmp_path / "changed.safetensors").write_bytes(content)
    with pytest.raises(cnnzoo.CheckpointError, match=rf"changed.safetensors has sha256 \w+, expected {expected}"):
        check_sha256(tmp_path / "changed.safetensors", expected)
    with pytest.raises(cnnzoo.CheckpointError, match=r"nothing says what sha256 .* load it with checksum=False"):
        check_sha256(tmp_path / "changed.safetensors", "")


def test_features_only_weights_are_not_the_default() -> None:
    spec = cnnzoo.spec("resnet50")
    assert published(spec, None, {"num_classes": 0}).tag == spec.checkpoints[0]
    assert published(spec, None, {"num_classes": 7, "in_channels": 1}).tag == spec.checkpoints[0]
    assert published(spec, "bamboo", {}).options == {"num_classes": 0}


def test_mixed_precision_has_to_be_named(tmp_path: Path) -> None:
    state = cnnzoo.create("lenet5", seed=0).state_dict()
    state["c1.weight"] = state["c1.weight"].half()
    save_file(state, tmp_path / "mixed.safetensors")
    with pytest.raises(cnnzoo.CheckpointError, match=r"holds torch.float16, torch.float32, .* dtype=torch.float32"):
        cnnzoo.load_pretrained("lenet5", checkpoint=tmp_path / "mixed.safetensors")
    model = cnnzoo.load_pretrained("lenet5", checkpoint=tmp_path / "mixed.safetensors", dtype=torch.float32)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_channels_adapt_only_when_asked(tmp_path: Path) -> None:
    save_file(cnnzoo.create("lenet5", in_channels=3, seed=0).state_dict(), tmp_path / "colour.safetensors")
    with pytest.raises(cnnzoo.CheckpointError, match=r"shape of c1.weight: \(6, 3, 5, 5\) in the file, \(6, 1, 5, 5\)"):
        cnnzoo.load_pretrained("lenet5", checkpoint=tmp_path / "colour.safetensors")
    with pytest.raises(cnnzoo.OptionError, match=r"got num_classes=-1"):
        cnnzoo.load_pretrained("lenet5", checkpoint=tmp_path / "colour.safetensors", num_classes=-1)


def test_one_channel_has_one_mean() -> None:
    row = replace(list_checkpoints("resnet18")[0], source="", file="")
    model = cnnzoo.create("resnet18", in_channels=1, device="meta")
    now = _as_it_is_now(row, cnnzoo.spec("resnet18"), model, {})
    assert (now.preprocessing.channels, now.preprocessing.size) == (1, 224)
    assert now.preprocessing.mean == pytest.approx((0.485 + 0.456 + 0.406) / 3)
    assert now.transforms()(torch.zeros(1, 300, 300, dtype=torch.uint8)).shape == (1, 224, 224)


def test_a_file_is_not_a_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_weights(cnnzoo.create("lenet5", seed=0), "lenet5.safetensors")
    model = cnnzoo.load_pretrained("lenet5.safetensors")
    assert model.checkpoint is None
    with pytest.raises(
        cnnzoo.CheckpointError, match=r"no weights of resnet50 with classic=True; there are: \w+, \w+, "
    ):
        cnnzoo.load_pretrained("resnet50", classic=True)
