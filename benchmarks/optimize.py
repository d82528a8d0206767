"""Inference as fast as it gets: `cnnzoo.optimize` beside torchvision's network in every backend that is installed."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import click
import torch
from rich.console import Console
from torch import Tensor, nn

import cnnzoo
from benchmarks.harness import Bench, benchmark, require_same
from benchmarks.peers import network, same_network

NETWORKS = ("resnet18", "resnet50", "googlenet", "inception_v3", "vgg11", "alexnet")
OURS = "cnnzoo.optimize"
EAGER = "torchvision eager"


def batches_of(*default: int) -> Callable[..., Any]:
    """The option `--batch`, which reaches the command as `batches`."""
    sizes = click.IntRange(min=1)
    what = "Images at a time; may be given several times."
    return click.option("--batch", "batches", type=sizes, multiple=True, default=default, show_default=True, help=what)


@benchmark(repeats=9, device=True, models=NETWORKS)
@batches_of(1, 16)
def optimize(bench: Bench, names: list[str], batches: tuple[int, ...]) -> None:
    """Scores of a batch: the optimised network beside torchvision's, eager, compiled, in ONNX Runtime and OpenVINO."""
    for name in names:
        model = network(name, seed=0, device=bench.device).eval()
        theirs = same_network("torchvision", model).eval()
        for batch in batches:
            images = torch.randn(batch, *cnnzoo.spec(name).input_shape, device=bench.device)
            fast = cnnzoo.optimize(model, batch_size=batch)
            Console().print(fast.report)
            calls = peers(theirs, images) | {OURS: lambda fast=fast, images=images: fast(images)}
            require_same({candidate: call() for candidate, call in calls.items()}, 1e-3)
            one = bench.compare(f"{name}, batch {batch}, float32, {bench.device}, {fast.backend}", OURS, calls)
            fastest = min(calls.keys() - {OURS}, key=lambda candidate: one.samples[candidate].median)
            bench.ratio(one, fastest, at_least=1.0)
            if (name, batch, bench.device) == ("resnet18", 16, "cpu"):
                bench.ratio(one, EAGER, at_least=1.4)
            torch.compiler.reset()


def peers(model: nn.Module, images: Tensor) -> dict[str, Callable[[], Tensor]]:
    """What a user of torchvision can do with the same network, by name."""
    compiled = torch.compile(model)
    calls = {
        EAGER: torch.inference_mode()(lambda: model(images)),
        "torchvision torch.compile": torch.no_grad()(lambda: compiled(images)),
    }
    return calls | {f"torchvision in {name}": call for name, call in onnx_backends(model, images).items()}


def onnx_backends(model: nn.Module, images: Tensor) -> dict[str, Callable[[], Tensor]]:
    """A call for each program that is installed and runs ONNX, which on CUDA is none."""
    if images.is_cuda or not find_spec("onnxscript"):
        return {}
    with torch.no_grad():
        program = torch.onnx.export(model, (images,), dynamo=True, verbose=False)
    assert program is not None
    onnx, calls = program.model_proto.SerializeToString(), {}
    if find_spec("onnxruntime"):
        calls["ONNX Runtime"] = in_onnxruntime(onnx, images)
    if find_spec("openvino"):
        calls["OpenVINO"] = in_openvino(onnx, images)
    return calls


def in_onnxruntime(onnx: bytes, images: Tensor) -> Callable[[], Tensor]:
    """With torch's number of threads; threads that spin while they wait would slow down the other candidates."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: images.numpy()}
    return lambda: torch.from_numpy(session.run(None, feed)[0])


def in_openvino(onnx: bytes, images: Tensor) -> Callable[[], Tensor]:
    """With torch's number of threads, for latency, in single precision: its own choice would be a half."""
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino_core()
    request = core.compile_model(core.read_model(onnx), "CPU", settings).create_infer_request()
    return lambda: torch.from_numpy(request.infer([images.numpy()], share_inputs=True)[0])


@cache
def openvino_core() -> Any:
    """One for the whole process: where the last one goes, so does the stack that OpenVINO lent a thread for signals."""
    import openvino

    return openvino.Core()
