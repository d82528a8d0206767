"""Where a measurement was made."""

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

import cnnzoo

PACKAGES = ("torch", "torchvision", "timm", "torchinfo", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Environment:
    """Where a measurement was made, as far as it bears on the result; no names of hosts or folders."""

    date: str
    python: str
    versions: dict[str, str]
    threads: int
    cpu: str
    gpu: str | None
    platform: str

    @classmethod
    def here(cls) -> "Environment":
        """This process, now."""
        return cls(
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            python=platform.python_version(),
            versions={"cnnzoo": cnnzoo.__version__} | {name: version(name) for name in PACKAGES if find_spec(name)},
            threads=torch.get_num_threads(),
            cpu=cpuinfo("model name") or platform.processor(),
            gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            platform=f"{platform.system()} {platform.machine()}",
        )


def clock(device: str) -> int | None:
    """The clock of a device in MHz at this moment, of a GPU its multiprocessors'; None where it cannot be read."""
    if device == "cpu":
        stated = cpuinfo("cpu MHz")
        return round(float(stated)) if stated else None
    try:
        return torch.cuda.clock_rate()
    except Exception:  # it takes a package of NVIDIA's, which raises its own errors; the clock is only a remark
        return None


def cpuinfo(entry: str) -> str:
    """What Linux says of the first processor, such as its `model name`; nothing elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(entry)), "")
