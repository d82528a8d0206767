"""The files that training programs write: each loads by name, whatever lies around the weights."""

import argparse
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

import cnnzoo
from cnnzoo.checkpoints.layouts import from_layout
from cnnzoo.checkpoints.state_dicts import ATTRIBUTES, WRAPPERS, ChosenWeightsWarning
from cnnzoo.checkpoints.weights import read_weights

State = dict[str, Tensor]

torch.manual_seed(0)
THEIRS = torchvision.models.resnet18(num_classes=7).state_dict()
AVERAGE = {name: tensor * 2 if tensor.is_floating_point() else tensor for name, tensor in THEIRS.items()}


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def optimizer(state: State) -> dict[str, Any]:
    """What an optimiser saves that has made a step."""
    parameters = [nn.Parameter(tensor.clone()) for tensor in list(state.values())[:3]]
    made = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    for one in parameters:
        one.grad = torch.ones_like(one)
    made.step()
    return made.state_dict()


def averaged(state: State) -> State:
    """What `torch.optim.swa_utils.AveragedModel` saves."""
    return {"n_averaged": torch.tensor(5), **under("module.", state)}


def profiled(state: State) -> State:
    """What a counter of operations leaves in a network."""
    layers = {name.rpartition(".")[0] for name in state}
    extra = {
        f"{layer}.{one}": torch.zeros(1, dtype=torch.float64)
        for layer in layers
        for one in ("total_ops", "total_params")
    }
    return {**state, **extra, "total_ops": torch.zeros(1)}


CONTAINERS: dict[str, Callable[[State], object]] = {
    "state dict": lambda s: s,
    "imagenet example": lambda s: {"epoch": 3, "arch": "resnet18", "state_dict": under("module.", s), "best_acc1": torch.tensor(71.2), "optimizer": optimizer(s), "scheduler": {"last_epoch": 3}},
    "torchvision reference": lambda s: {"model": OrderedDict(s), "optimizer": optimizer(s), "lr_scheduler": {"_step_count": 2}, "epoch": 9, "args": argparse.Namespace(lr=0.1, opt="sgd", device=torch.device("cpu"))},
    "timm": lambda s: {"epoch": 1, "arch": "resnet18", "state_dict": s, "optimizer": optimizer(s), "version": 2, "args": argparse.Namespace(model="resnet18"), "amp_scaler": {"scale": 65536.0}, "metric": 71.2},
    "lightning": lambda s: {"epoch": 1, "global_step": 10, "pytorch-lightning_version": "2.5.0", "state_dict": under("model.", s), "loops": {"fit_loop": {}}, "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.7), "dirpath": Path("/x")}}, "optimizer_states": [optimizer(s)], "lr_schedulers": [], "hparams_name": "kwargs", "hyper_parameters": {"lr": 0.1}},
    "lightning, compiled": lambda s: {"state_dict": under("model._orig_mod.", s)},
    "lightning, net": lambda s: {"state_dict": under("net.", s)},
    "accelerate": lambda s: OrderedDict(under("module._orig_mod.", s)),
    "average": averaged,
    "average of a model on several devices": lambda s: averaged(under("module.", s)),
    "average in a checkpoint": lambda s: {"model_ema": averaged(s), "epoch": 3},
    "ema alone": lambda s: {"ema": s},
    "state_dict_ema alone": lambda s: {"state_dict_ema": s, "epoch": 3},
    "nested ema": lambda s: {"ema": {"module": s, "updates": 7}, "date": "today"},
    "fsdp": lambda s: under("_fsdp_wrapped_module.", s),
    "net": lambda s: {"net": s, "acc": 91.0, "epoch": 3},
    "an entry of another name": lambda s: {"student": s, "epoch": 3},
    "profiled": profiled,
    "profiled and wrapped": lambda s: {"state_dict": under("module.", profiled(s))},
    "parameters": lambda s: {name: nn.Parameter(tensor, tensor.is_floating_point()) if tensor.is_floating_point() else tensor for name, tensor in s.items()},
}  # fmt: skip


@pytest.mark.parametrize("how", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "old"])
@pytest.mark.parametrize("form", CONTAINERS)
def test_every_form_loads(tmp_path: Path, form: str, how: dict) -> None:
    path = tmp_path / "checkpoint.pth.tar"
    torch.save(CONTAINERS[form](THEIRS), path, **how)
    model = cnnzoo.load_pretrained("resnet18", checkpoint=path, num_classes=7)
    assert torch.equal(model.conv1.weight, THEIRS["conv1.weight"])
    assert torch.equal(model.conv3_x[0].downsample[0].weight, THEIRS["layer2.0.downsample.0.weight"])
    assert torch.equal(model.fc.bias, THEIRS["fc.bias"])


FLAT = ["state dict", "accelerate", "average", "average of a model on several devices", "fsdp", "profiled"]


@pytest.mark.parametrize("form", FLAT)
def test_every_flat_form_loads_as_safetensors(tmp_path: Path, form: str) -> None:
    made = CONTAINERS[form](THEIRS)
    assert isinstance(made, dict)
    save_file({name: tensor.clone() for name, tensor in made.items()}, tmp_path / "a.safetensors")
    assert read_weights(tmp_path / "a.safetensors")[0].keys() == THEIRS.keys()


# Where there is a choice, it is said.


@pytest.mark.parametrize(
    ("average", "raw"),
    [("state_dict_ema", "state_dict"), ("model_ema", "model"), ("ema", "net"), ("ema_state_dict", "model_state_dict")],
)
def test_of_averaged_and_raw_weights_the_averaged_are_taken(tmp_path: Path, average: str, raw: str) -> None:
    path = tmp_path / "last.pth"
    torch.save({raw: THEIRS, average: averaged(AVERAGE), "epoch": 3}, path)
    message = rf"last\.pth holds averaged weights under '{average}' and raw ones under '{raw}': took the averaged; pass weights_key='{raw}'"
    with pytest.warns(ChosenWeightsWarning, match=message):
        model = cnnzoo.load_pretrained("resnet18", checkpoint=path, num_classes=7)
    assert torch.equal(model.conv1.weight, AVERAGE["conv1.weight"])
    for key, expected in ((raw, THEIRS), (average, AVERAGE)):  # without a warning
        model = cnnzoo.load_pretrained("resnet18", checkpoint=path, num_classes=7, weights_key=key)
        assert torch.equal(model.conv1.weight, expected["conv1.weight"])


def test_an_average_that_is_none_is_no_choice(tmp_path: Path) -> None:
    torch.save({"state_dict": THEIRS, "state_dict_ema": None, "ema": {}}, tmp_path / "a.pth")
    assert torch.equal(read_weights(tmp_path / "a.pth")[0]["fc.bias"], THEIRS["fc.bias"])


def test_several_sets_are_a_question(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"teacher": THEIRS, "student": AVERAGE}, path)
    with pytest.raises(
        cnnzoo.CheckpointError,
        match=r"several sets of tensors: 'teacher', 'student'; choose one: weights_key='teacher'",
    ):
        read_weights(path)
    assert torch.equal(read_weights(path, weights_key="student")[0]["fc.bias"], AVERAGE["fc.bias"])


def test_keys_that_are_not_there(tmp_path: Path) -> None:
    torch.save({"model": THEIRS, "epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(
        cnnzoo.CheckpointError, match=r"has no entry 'ema' \(weights_key\); entries with tensors: 'model'"
    ):
        read_weights(tmp_path / "a.pth", weights_key="ema")
    with pytest.raises(cnnzoo.CheckpointError, match="holds an int, not tensors by name"):
        read_weights(tmp_path / "a.pth", weights_key="epoch")
    save_file(THEIRS, tmp_path / "a.safetensors")
    with pytest.raises(
        cnnzoo.CheckpointError,
        match=r"a safetensors file, which has no entries \(weights_key='model'\); leave weights_key out",
    ):
        read_weights(tmp_path / "a.safetensors", weights_key="model")


# Names.


def test_wrappers_use_words_that_no_network_of_ours_does() -> None:
    for name in cnnzoo.list_models(kind="model"):
        words = {word for key in cnnzoo.create(name, device="meta").state_dict() for word in key.split(".")}
        assert not words & {*WRAPPERS, *ATTRIBUTES, "n_averaged", "total_ops", "total_params"}, name


@pytest.mark.parametrize(("name", "early"), [("alexnet", False), ("vgg11", False), ("vgg11", True), ("vgg16_bn", True)])
def test_parts_on_several_devices(tmp_path: Path, name: str, early: bool) -> None:
    """PyTorch's ImageNet example spreads `features` of AlexNet and VGG alone; the first VGG had its dropout elsewhere."""
    with torch.device("meta"):
        shapes = {
            key: tensor.shape for key, tensor in getattr(torchvision.models, name)(num_classes=3).state_dict().items()
        }
    theirs = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    made = {}
    for key, tensor in theirs.items():
        if early:
            for new, old in (("classifier.0", "classifier.1"), ("classifier.3", "classifier.4")):
                if key.startswith(new):
                    key = key.replace(new, old)
                    break
        made[key.replace("features.", "features.module.")] = tensor
    small = {key: tensor for key, tensor in made.items() if tensor.numel() < 10**6}
    torch.save({"state_dict": {key: tensor.contiguous() for key, tensor in small.items()}}, tmp_path / "a.pth")
    read = read_weights(tmp_path / "a.pth")[0]
    assert read.keys() == {key.replace(".module.", ".") for key in small}
    ours = cnnzoo.create(name, num_classes=3, device="meta")
    full = {key.replace(".module.", "."): tensor for key, tensor in made.items()}
    named = from_layout(ours, full, "torchvision")
    assert {key: tensor.shape for key, tensor in named.items()} == {
        key: t.shape for key, t in ours.state_dict().items()
    }


def test_words_of_wrappers_that_only_some_names_have(tmp_path: Path) -> None:
    for names in (["module.a", "b"], ["features.module.0", "features.1"], ["model.a", "criterion.weight"]):
        torch.save({name: torch.ones(1) for name in names}, tmp_path / "a.pth")
        assert list(read_weights(tmp_path / "a.pth")[0]) == names


def test_names_of_any_length(tmp_path: Path) -> None:
    """They are refused, and shown shortened."""
    for name in ("a" * 5000, "module." * 900 + "a"):
        torch.save({name: torch.ones(1)}, tmp_path / "a.pth")
        save_file({name: torch.ones(1)}, tmp_path / "a.safetensors")
        for path in (tmp_path / "a.pth", tmp_path / "a.safetensors"):
            with pytest.raises(cnnzoo.CheckpointError, match=r"\.\.\., which is no tensor's name") as caught:
                read_weights(path)
            assert len(str(caught.value)) < 600


def test_printed_variants_of_others_load_where_the_caller_says_so(tmp_path: Path) -> None:
    """Files of the first ResNet-50 carry torchvision's names; nothing but the caller knows which they are."""
    ours = cnnzoo.create("resnet50", classic=True, num_classes=2, seed=0)
    names = {"conv2_x": "layer1", "conv3_x": "layer2", "conv4_x": "layer3", "conv5_x": "layer4"}
    theirs = {}
    for key, tensor in ours.state_dict().items():
        first, _, rest = key.partition(".")
        theirs[f"{names.get(first, first)}.{rest}"] = tensor
    torch.save(theirs, tmp_path / "a.pth")
    model = cnnzoo.load_pretrained("resnet50", classic=True, num_classes=2, checkpoint=tmp_path / "a.pth")
    assert torch.equal(model.conv5_x[2].conv3.weight, ours.conv5_x[2].conv3.weight)


# Folders.


def test_a_folder_that_holds_only_weights(tmp_path: Path) -> None:
    save_file(THEIRS, tmp_path / "model.safetensors")
    model = cnnzoo.load_pretrained("resnet18", checkpoint=tmp_path, num_classes=7)
    assert torch.equal(model.fc.bias, THEIRS["fc.bias"])
    with pytest.raises(cnnzoo.CheckpointError, match="does not say what network it holds; name it"):
        cnnzoo.load_pretrained(tmp_path)


def test_a_copy_of_a_repository_of_timm(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("resnet18", num_classes=7).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    config = {"architecture": "resnet18", "num_classes": 7, "pretrained_cfg": {"tag": "x", "input_size": [3, 64, 64], "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    images = torch.rand(2, 3, 64, 64)
    for model in (cnnzoo.load_pretrained(tmp_path), cnnzoo.load_pretrained("resnet18", checkpoint=tmp_path)):
        with torch.inference_mode():
            torch.testing.assert_close(model(images), theirs(images))


def shard(folder: Path, state: State, suffix: str = ".safetensors") -> Path:
    """Weights in three files, as Hugging Face's libraries write large ones."""
    names, places = list(state), {}
    for number in range(3):
        file = f"model-{number + 1:05}-of-00003{suffix}"
        part = {name: state[name] for name in names[number::3]}
        save_file(part, folder / file) if suffix == ".safetensors" else torch.save(part, folder / file)
        places |= dict.fromkeys(part, file)
    index = folder / f"model{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_weights_in_several_files(tmp_path: Path, suffix: str) -> None:
    index = shard(tmp_path, under("module.", THEIRS), suffix)
    places = [index, tmp_path] if suffix == ".safetensors" else [index]
    for place in places:
        model = cnnzoo.load_pretrained("resnet18", checkpoint=place, num_classes=7)
        assert all(torch.equal(tensor, THEIRS[name]) for name, tensor in read_weights(index)[0].items())
        assert torch.equal(model.fc.bias, THEIRS["fc.bias"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said.pop("weight_map"), "has no weight_map, a table of tensors and files"),
        (lambda said: said.update(weight_map={}), "has no weight_map"),
        (lambda said: said.update(weight_map=[1]), "has no weight_map"),
        (lambda said: said["weight_map"].update({"fc.bias": 5}), "has no weight_map"),
        (lambda said: said["weight_map"].update({"fc.bias": "../a.safetensors"}), "leads out of"),
        (lambda said: said["weight_map"].update({"fc.bias": "a.safetensors"}), r"there is no file .*a\.safetensors|disagree"),
        (lambda said: said["weight_map"].pop("fc.bias"), "and its index disagree on 1 tensors: fc.bias; fetch the files again"),
        (lambda said: said["weight_map"].update({"more": said["weight_map"]["fc.bias"]}), "disagree on 1 tensors: more"),
        (lambda said: said["weight_map"].update({f"t{i}": f"{i}.safetensors" for i in range(1001)}), "names 1004 files; up to 1000 are read"),
    ],
)  # fmt: skip
def test_an_index_that_is_wrong(tmp_path: Path, change: Callable, message: str) -> None:
    index = shard(tmp_path, THEIRS)
    said = json.loads(index.read_text())
    change(said)
    index.write_text(json.dumps(said))
    with pytest.raises(cnnzoo.CheckpointError, match=message):
        read_weights(index)


# With the libraries themselves.


def test_what_torch_averages(tmp_path: Path) -> None:
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    theirs = torchvision.models.resnet18(num_classes=7)
    average = AveragedModel(nn.DataParallel(theirs), multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    average.update_parameters(nn.DataParallel(theirs))
    torch.save({"model": theirs.state_dict(), "model_ema": average.state_dict()}, tmp_path / "a.pth")
    with pytest.warns(ChosenWeightsWarning, match="took the averaged"):
        read = read_weights(tmp_path / "a.pth")[0]
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in read.items())


def test_what_timm_saves(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    from timm.utils import CheckpointSaver, ModelEmaV2

    theirs = timm.create_model("resnet18", num_classes=7)
    saver = CheckpointSaver(
        theirs,
        torch.optim.SGD(theirs.parameters(), lr=0.1),
        args=argparse.Namespace(model="resnet18"),
        model_ema=ModelEmaV2(theirs, decay=0.5),
        checkpoint_dir=str(tmp_path),
        recovery_dir=str(tmp_path),
    )
    saver.save_checkpoint(0, metric=0.5)
    for path in tmp_path.glob("*.pth.tar"):
        with pytest.warns(ChosenWeightsWarning, match="'state_dict_ema' and raw ones under 'state_dict'"):
            model = cnnzoo.load_pretrained("resnet18", checkpoint=path, num_classes=7)
        assert torch.equal(model.fc.bias, theirs.fc.bias)


def test_what_torch_compiles_and_wraps(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18(num_classes=7)
    for wrapped in (
        nn.DataParallel(theirs),
        torch.compile(theirs),
        nn.DataParallel(torch.compile(nn.DataParallel(theirs))),
    ):  # pyright: ignore
        assert isinstance(wrapped, nn.Module)
        torch.save(wrapped.state_dict(), tmp_path / "a.pth")
        assert read_weights(tmp_path / "a.pth")[0].keys() == theirs.state_dict().keys()
