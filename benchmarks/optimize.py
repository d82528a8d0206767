"""Inference as fast as it gets: `cnnzoo.optimize` beside torchvision's network in every backend that is installed."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import click
import torch
from rich.console import Console
from torch import Tensor, nn

import cnnzoo
from benchmarks.harness import (
    Comparison,
    Report,
    Target,
    device,
    interleave,
    min_time,
    repeats,
    reporting,
    synchronizer,
)
from benchmarks.peers import models, same_network
from cnnzoo.deploy.backends import openvino_core

NETWORKS = ("resnet18", "resnet50", "googlenet", "inception_v3", "vgg11", "alexnet")
OURS = "cnnzoo.optimize"


@click.command()
@models(NETWORKS)
@click.option(
    "--batch", "batches", type=int, multiple=True, default=(1, 16), show_default=True, help="Images at a time."
)
@device()
@repeats(default=9)
@min_time()
@reporting
def optimize(
    names: list[str], batches: tuple[int, ...], device: str, repeats: int, min_time: float, report: Report
) -> None:
    """Scores of a batch: the optimised network beside torchvision's, eager, compiled, in ONNX Runtime and OpenVINO."""
    comparisons, targets = [], []
    for name in names:
        model = cnnzoo.create(name, seed=0, device=device).eval()
        theirs = same_network("torchvision", model).eval()
        for batch in batches:
            images = torch.randn(batch, *model.input_shape, device=device)
            fast = cnnzoo.optimize(model, batch_size=batch)
            Console().print(fast.report)
            candidates = {OURS: lambda fast=fast, images=images: fast(images)} | peers(theirs, images)
            require_agreement(candidates)
            samples = interleave(candidates, repeats=repeats, min_time=min_time, synchronize=synchronizer(device))
            case = f"{name}, batch {batch}, float32, {device}, {fast.backend}"
            one = Comparison(case, OURS, samples)
            comparisons.append(one)
            fastest = min(samples.keys() - {OURS}, key=lambda candidate: samples[candidate].median)
            targets.append(Target(f"{case}: {fastest} / {OURS}", one.ratio(fastest).median, at_least=1.0))
            if (name, batch, device) == ("resnet18", 16, "cpu"):
                eager = one.ratio("torchvision eager").median
                targets.append(Target(f"{case}: torchvision eager / {OURS}", eager, at_least=1.4))
            torch.compiler.reset()
    report.timings("optimize", comparisons, targets)


def peers(model: nn.Module, images: Tensor) -> dict[str, Callable[[], object]]:
    """What a user of torchvision can do with the same network, by name."""
    compiled = torch.compile(model)

    def run(call: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        return torch.inference_mode()(lambda: call(images))

    calls: dict[str, Callable[[], object]] = {"torchvision eager": run(model)}
    calls["torchvision torch.compile"] = torch.no_grad()(lambda: compiled(images))
    return calls | {f"torchvision in {name}": call for name, call in onnx_backends(model, images).items()}


def onnx_backends(model: nn.Module, images: Tensor) -> dict[str, Callable[[], object]]:
    """A call for each program that is installed and runs ONNX, which on CUDA is none."""
    if images.is_cuda or not find_spec("onnxscript"):
        return {}
    onnx = exported(model, images)
    calls: dict[str, Callable[[], object]] = {}
    if find_spec("onnxruntime"):
        calls["ONNX Runtime"] = in_onnxruntime(onnx, images)
    if find_spec("openvino"):
        calls["OpenVINO"] = in_openvino(onnx, images)
    return calls


def exported(model: nn.Module, images: Tensor) -> bytes:
    """ONNX for this very batch."""
    with torch.no_grad():
        program = torch.onnx.export(model, (images,), dynamo=True, verbose=False)
    assert program is not None
    return program.model_proto.SerializeToString()


def in_onnxruntime(onnx: bytes, images: Tensor) -> Callable[[], object]:
    """With torch's number of threads; threads that spin while they wait would slow down the other candidates."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: images.numpy()}
    return lambda: torch.from_numpy(session.run(None, feed)[0])


def in_openvino(onnx: bytes, images: Tensor) -> Callable[[], object]:
    """With torch's number of threads, for latency, in single precision: its own choice would be a half."""
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino_core()
    request = core.compile_model(core.read_model(onnx), "CPU", settings).create_infer_request()
    return lambda: torch.from_numpy(request.infer([images.numpy()], share_inputs=True)[0])


def require_agreement(candidates: dict[str, Callable[[], Any]]) -> None:
    """All candidates must give the same scores."""
    expected = candidates["torchvision eager"]()
    for name, call in candidates.items():
        apart = (call() - expected).abs().max() / expected.abs().max()
        if not apart < 1e-3:
            raise SystemExit(f"{name} computes something else: scores differ by {apart:.2g} of the largest")
