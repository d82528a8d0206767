"""The two formats that weights come in, safetensors and torch's own, and what can be wrong with a file of either.

A file is what its first bytes say. Whatever goes wrong while it is opened is one `CheckpointError`.
"""

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from cnnzoo.errors import CheckpointError

Format = Literal["safetensors", "zip", "pickle"]

TORCH_SUFFIXES = frozenset({".pth", ".pt", ".th", ".bin"})


def format_of(path: Path) -> Format:
    """What a file is by its first bytes, which its name must not contradict.

    Raises:
        CheckpointError: there is no such file, or it is neither safetensors nor from `torch.save`.
    """
    start = first_bytes(path, 512)
    found = _recognised(start)
    if found == "safetensors" and path.suffix in TORCH_SUFFIXES:
        raise CheckpointError(
            f"{path} is called {path.suffix}, but is a safetensors file; rename it to "
            f"{path.with_suffix('.safetensors').name}"
        )
    if found in ("zip", "pickle") and path.suffix == ".safetensors":
        raise CheckpointError(
            f"{path} is called .safetensors, but is a {found} file, as torch.save writes them; if you "
            f"trust where it is from, rename it to {path.with_suffix('.pth').name}"
        )
    if found in ("safetensors", "zip", "pickle"):
        return found
    if found is None and path.suffix == ".safetensors" and start:  # so far from whole that nothing shows what it was
        return "safetensors"
    what = found or ("empty" if not start else f"no file of weights: it begins with {start[:8]!r}")
    raise CheckpointError(
        f"{path} ({path.stat().st_size} bytes) is {what}; safetensors files and those of torch.save "
        "can be read: fetch or write it again"
    )


def first_bytes(path: Path, count: int) -> bytes:
    """The beginning of an ordinary file, in the hope that there is one.

    Raises:
        CheckpointError: there is no file, it is a folder or the like, or may not be read.
    """
    try:
        mode = path.stat().st_mode
        with path.open("rb") if stat.S_ISREG(mode) else nullcontext() as file:  # opening a pipe would wait
            start = file.read(count) if file else b""
    except (FileNotFoundError, NotADirectoryError, ValueError):  # a ValueError: there is a zero byte in the name
        raise CheckpointError(f"there is no file {path}") from None
    except OSError as error:
        raise unreadable(path, error) from None
    if not stat.S_ISREG(mode):
        what = "folder" if stat.S_ISDIR(mode) else "device or pipe"
        raise CheckpointError(f"{path} is a {what}; a file is expected there")
    return start


def _recognised(start: bytes) -> Format | str | None:
    if start[4:9] == b"\0\0\0\0{":  # the header's length in eight bytes, then the header, which is JSON
        return "safetensors"
    if start[:4] == b"PK\3\4":
        return "zip"
    if start[:1] == b"\x80" and start[1:2] <= b"\5":
        return "pickle"
    if start[257:262] == b"ustar":
        return "a tar file, which torch wrote before 0.2 and can no longer read safely"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS and not the file it stands for (`git lfs pull` gets that)"
    if start.lstrip()[:1] == b"<":
        return "a web page"
    return None


@contextmanager
def opened_safetensors(path: Path) -> Iterator[Any]:
    """A safetensors file, mapped; errors while it is open are taken to be the file's."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            yield opened
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is not a whole safetensors file: {reason(error)}; "
            "fetch or write it again"
        ) from None


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """The error for a place that the system does not let us look at."""
    return CheckpointError(
        f"{path} cannot be read: {getattr(error, 'strerror', None) or reason(error)}; "
        "see to the permissions and links that lead there"
    )


def reason(error: Exception) -> str:
    """The first sentence of what a library has to say."""
    said = re.split(r"\n|\. ", str(error).strip())[0].removesuffix(".")
    return short(f"KeyError: {said}" if isinstance(error, KeyError) else said) or type(error).__name__


def short(text: str, length: int = 160) -> str:
    """A text out of a file, as fit for a line of a message."""
    text = "".join(one if one.isprintable() else "?" for one in text[: length + 1])
    return text if len(text) <= length else text[: length - 3] + "..."


def kind_of(value: Any) -> str:
    """A value's type, with its article."""
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
