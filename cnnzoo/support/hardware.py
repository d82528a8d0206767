"""What this machine is called, for what is measured on it."""

import platform
from pathlib import Path


def processor() -> str:
    """The processor's model name; what Python knows of it is no more than the architecture on Linux."""
    return cpuinfo("model name") or platform.processor()


def cpuinfo(entry: str) -> str:
    """What Linux says of the first processor, such as its `model name`; nothing elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(entry)), "")
