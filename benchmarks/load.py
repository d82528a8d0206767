"""Weights from disk to the first scores: cnnzoo maps a file, torchvision and timm build, initialise and copy.

Every candidate reads the same numbers, which lie in the page cache: cnnzoo and timm as safetensors, torchvision as its
own files are.
"""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file
from torch import nn

import cnnzoo
from benchmarks.harness import Bench, benchmark
from benchmarks.peers import INSTALLED, has, network, timm_name, torchvision_network
from cnnzoo.checkpoints.locate import check_sha256

NETWORKS = {"vgg16": (1 / 50, 1 / 5), "resnet152": (1 / 5, None), "inception_v4": (1 / 5, None)}
"""What is promised: the share of the others' time until the network is ready, and until its first scores."""

Load = Callable[[], nn.Module]


@benchmark(repeats=5, min_time=0.0)
def load(bench: Bench) -> None:
    """Loading weights from disk."""
    for name, (ready, scores) in NETWORKS.items():
        with TemporaryDirectory() as place:
            folder = Path(place)
            loads = candidates(name, folder)
            image = torch.randn(1, *cnnzoo.spec(name).input_shape)
            through = {library: partial(first_scores, one, image) for library, one in loads.items()}
            for what, limit, calls in (("ready", ready, loads), ("first scores", scores, through)):
                one = bench.compare(f"{name}, {what}", "cnnzoo", calls)
                for peer in calls.keys() - {"cnnzoo"} if limit else ():
                    bench.ratio(one, peer, at_least=1 / limit)
            if name == "vgg16":
                memory(bench, folder / "ours")
                beside_bare_operations(bench, folder)


def candidates(name: str, folder: Path) -> dict[str, Load]:
    """How each library that has the network gets it from a file of its own."""
    model = network(name, seed=0)
    cnnzoo.save_pretrained(model, folder / "ours")
    loads: dict[str, Load] = {"cnnzoo": partial(cnnzoo.load_pretrained, folder / "ours")}
    if "torchvision" in INSTALLED and has("torchvision", name):
        torch.save(cnnzoo.to_layout(model, "torchvision"), folder / "theirs.pth")
        loads["torchvision"] = partial(from_torchvision, name, folder / "theirs.pth")
    if "timm" in INSTALLED:
        import timm

        tensors = {key: tensor.contiguous() for key, tensor in cnnzoo.to_layout(model, "timm").items()}
        save_file(tensors, folder / "timm.safetensors")
        path = str(folder / "timm.safetensors")
        loads["timm"] = partial(timm.create_model, timm_name(name), checkpoint_path=path)
    return loads


def from_torchvision(name: str, path: Path) -> nn.Module:
    """What torchvision does with a file of its own, minus the download."""
    model = torchvision_network(name)
    model.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    return model


@torch.inference_mode()
def first_scores(load: Load, image: torch.Tensor) -> torch.Tensor:
    """The network, ready, and an image through it."""
    return load().eval()(image)


def beside_bare_operations(bench: Bench, folder: Path) -> None:
    """Checking a file and saving a network, each beside what is at the bottom of it."""
    path, model = folder / "ours" / "model.safetensors", network("vgg16", seed=0)
    checking = {"sha256": partial(sha256, path), "cnnzoo": partial(check_sha256, path, sha256(path))}
    bench.ratio(bench.compare("vgg16, checksum", "sha256", checking), "cnnzoo", at_most=1.5)
    bare = partial(save_file, model.state_dict(), folder / "bare.safetensors")
    saving = {"save_file": bare, "cnnzoo": partial(cnnzoo.save_pretrained, model, folder / "copy")}
    bench.ratio(bench.compare("vgg16, saving", "save_file", saving), "cnnzoo", at_most=1 / 0.8)


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


MEMORY = """
import sys, torch, cnnzoo
from pathlib import Path
def status(entry):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(entry + ":"))
cnnzoo.load_pretrained("lenet5")(torch.zeros(1, 1, 28, 28))  # what is imported and set up at first use
anonymous, imports = status("RssAnon"), status("VmRSS")
model = cnnzoo.load_pretrained(Path(sys.argv[1]))
ready = status("RssAnon") - anonymous
with torch.inference_mode():
    model(torch.zeros(1, *model.input_shape))
print(ready, status("VmHWM") - imports)
"""


def memory(bench: Bench, folder: Path) -> None:
    """Memory over the imports, in a process of its own, in units of 2^20 bytes."""
    run = subprocess.run([sys.executable, "-c", MEMORY, folder], check=True, capture_output=True, text=True)
    ready, peak = map(float, run.stdout.split())
    size = (folder / "model.safetensors").stat().st_size / 2**20
    bench.target("vgg16: anonymous memory when ready", ready, at_most=20, unit=" MB")
    bench.target("vgg16: peak memory at the first scores / file", peak / size, at_most=1.2)
