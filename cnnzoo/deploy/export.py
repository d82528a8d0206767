"""A network as an ONNX file, which runs without torch."""

import copy
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cnnzoo.deploy.checking import Reference, random_images
from cnnzoo.deploy.fold import folded_if_possible
from cnnzoo.deploy.outputs import Apart, Scores, Structure
from cnnzoo.deploy.pooling import exact_pooling
from cnnzoo.deploy.quantize import quantized
from cnnzoo.errors import DeployError, operation
from cnnzoo.support.files import replacing
from cnnzoo.support.text import first_line
from cnnzoo.support.wrappers import inside

WRITING = ("onnx", "onnxscript")
"""The packages that torch writes ONNX with."""


class UnfoldedWarning(UserWarning):
    """A network whose batch normalisation is exported as it is."""


@operation
def export_onnx(
    model: nn.Module,
    path: Path | str,
    *,
    input_shape: Sequence[int] | None = None,
    calibration: Tensor | None = None,
) -> None:
    """Write a network as ONNX: `images` (batch, C, H, W) to `scores`, in single precision, for any batch.

    What a network gives in a dict has its keys for names, in a named tuple its fields, and in another one its places:
    `output_0`, `output_1`. What is nested is called `outer.inner`.

    Batch normalisation is folded into the convolutions; where the network's `forward` cannot be followed for that, an
    `UnfoldedWarning` says so. Pruned, weight-normalised and parametrised weights are written as they are applied.
    Where ONNX Runtime is installed, the file has computed the same as the model on random images, to 1e-4 of the
    largest score, before it takes its name.

    Args:
        model: any network that torch can export; it is not changed.
        path: of the file, which is written whole or not at all.
        input_shape: (C, H, W) of the images; by default the network's own.
        calibration: prepared images (N, C, H, W), some hundred typical ones. With them the file calculates in
            integers of eight bits, whose scales are measured on them.

    Raises:
        DeployError: a package is missing, the network cannot be exported, or the file computes something else.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.export_onnx(cnnzoo.load_pretrained("lenet5"), "lenet5.onnx")
    """
    require(*WRITING, *(["onnxruntime"] if calibration is not None else []))
    path = Path(path)
    if not path.parent.is_dir():
        raise DeployError(f"there is no folder {path.parent} to write {path.name} into; make it first")
    model = inside(model)
    images = random_images(model, input_shape)
    reference = Reference(model, images)
    net, unfolded = folded_if_possible(model, images)
    if unfolded:
        warnings.warn(unfolded, UnfoldedWarning, stacklevel=3)
    content = onnx_bytes(net, images, reference.structure)
    dtype = None
    if calibration is not None:
        content, images, dtype = quantized(content, calibration), calibration[:32], torch.int8
        reference = Reference(model, images)
    if not missing("onnxruntime"):
        reference.compare(onnx_runner(content)(images), dtype)
    with replacing(path) as aside:
        aside.write_bytes(content)


def onnx_bytes(model: nn.Module, images: Tensor, structure: Structure | None = None) -> bytes:
    """A network in evaluation mode as an ONNX model in single precision, `images` to its outputs, for any batch.

    Args:
        model: of plain weights.
        images: an example.
        structure: of what it gives; by default one tensor.
    """
    one = images[:1].detach().float().cpu()
    model = copy.deepcopy(model).to("cpu", torch.float32)
    names = ("scores",)
    if structure is not None and not structure.is_one:
        model, names = Apart(model).eval(), structure.names
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.11's exporter uses what torch 2.11 deprecates
            program = torch.onnx.export(
                model,
                (torch.cat([one, one]),),  # a batch of one would be taken for a constant
                input_names=["images"],
                output_names=list(names),
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        why = first_line(error.__cause__ or error)
        raise DeployError(
            f"torch cannot export this {type(model).__name__}: {why}; torch.export.export says more, and "
            "has to succeed first"
        ) from error
    assert program is not None
    proto = program.model_proto
    exact_pooling(proto)
    return proto.SerializeToString()


def onnx_runner(content: bytes) -> Callable[[Tensor], Scores]:
    """ONNX Runtime on the CPU, with as many threads as torch has: images on the CPU to scores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin while they wait take the processor from everything else in the program.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Scores:
        array = images.detach().float().cpu().contiguous().numpy()
        found = tuple(torch.from_numpy(one) for one in session.run(None, {"images": array}))
        return found if len(found) != 1 else found[0]

    return run


def missing(*packages: str) -> list[str]:
    """Those of the packages that are not installed."""
    return [package for package in packages if importlib.util.find_spec(package) is None]


def require(*packages: str) -> None:
    """Raise a `DeployError` unless the packages are installed."""
    if absent := missing(*packages):
        raise DeployError(f"needs {' and '.join(absent)}; pip install 'cnnzoo[onnx]'")
