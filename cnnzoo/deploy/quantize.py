"""Eight-bit integers in place of floating point, by ONNX Runtime's quantiser."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from cnnzoo.errors import DeployError

BATCH = 32


def quantized(content: bytes, calibration: Tensor) -> bytes:
    """An ONNX model that calculates in eight-bit integers, after training.

    Each filter of a convolution has a scale of its own; each activation has the scale that covers what the
    calibration images bring about.

    Args:
        content: the model in single precision, with an input `images`.
        calibration: prepared images (N, C, H, W).

    Raises:
        DeployError: there are no images.

    Source: Jacob et al. 2018, "Quantization and Training of Neural Networks".
    """
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if calibration.ndim != 4 or not len(calibration):
        raise DeployError(
            f"calibration: got {tuple(calibration.shape)}; pass prepared images (N, C, H, W), some hundred typical ones"
        )

    reader: Any = _Reader(calibration)
    with TemporaryDirectory() as folder, _quiet():
        given, prepared, small = (Path(folder, name) for name in ("given.onnx", "prepared.onnx", "small.onnx"))
        given.write_bytes(content)
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            small,
            reader,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return small.read_bytes()


class _Reader:
    """Batch after batch, as the quantiser asks for them."""

    def __init__(self, images: Tensor) -> None:
        self.batches = iter(images.detach().float().cpu().split(BATCH))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch.numpy()}


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser tells the root logger what it is about to do."""
    root = logging.getLogger()
    disabled, root.disabled = root.disabled, True
    try:
        yield
    finally:
        root.disabled = disabled
