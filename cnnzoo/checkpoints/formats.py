"""The two formats that weights come in, safetensors and torch's own, and what can be wrong with a file of either.

A file is what its first bytes say. Whatever goes wrong while it is opened is one `CheckpointError`.
"""

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, Literal

import torch

from cnnzoo.errors import CheckpointError

Format = Literal["safetensors", "zip", "pickle"]

TORCH_SUFFIXES = frozenset({".pth", ".pt", ".th", ".bin"})

LARGEST_PICKLE = 64 * 2**20
"""Bytes of what torch.save pickles beside the numbers; of a ResNet-152 it is 0.1 MB."""

MOST_OPCODES = 1_000_000
"""Of a pickle; a tensor takes 34. torch needs some seconds for a million."""

DEEPEST = 50
"""Levels at which tuples nest in a pickle; those of tensors have three."""

HARMLESS = 8192
"""Levels of tuples that fit on every thread's stack: a level takes 60 bytes of it."""


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


def read_torch(path: Path, kind: Format, mmap: bool) -> Any:
    """What a file of `torch.save` holds: tensors, numbers and texts in containers; nothing else can be in it.

    Raises:
        CheckpointError: the file is damaged, or holds something else, which was not run.
    """
    try:
        if kind == "zip":
            _check_archive(path)
        else:
            with path.open("rb") as file:
                for _ in range(5):  # magic number, version, system, the object, and the order of what follows
                    if file.peek(1):
                        _check_pickle(file)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and kind == "zip")
    except CheckpointError:
        raise
    except Exception as error:
        code = re.search(r"GLOBAL (\S+) ", str(error))
        if code:
            raise CheckpointError(
                f"{path} holds more than tensors: it refers to {short(code[1])!r}, which was not run; "
                "ask for a safetensors file, or write state_dict() alone"
            ) from None
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is not a whole file of torch.save: "
            f"{reason(error)}; fetch or write it again"
        ) from None


def _check_archive(path: Path) -> None:
    """Refuse archives that torch would unpack (a few bytes may become gigabytes) or take for programs."""
    import zipfile
    from io import BytesIO

    with zipfile.ZipFile(path) as archive:
        entries = {one.filename: one for one in archive.infolist()}
    if any(one.compress_type != zipfile.ZIP_STORED for one in entries.values()):
        raise CheckpointError(
            f"{path} is a compressed archive, which torch.save does not write; if the file of weights "
            "is inside, unpack it"
        )
    if any(name.endswith("/constants.pkl") for name in entries):
        raise CheckpointError(f"{path} is a TorchScript program, which is not run; write its state_dict() alone")
    pickles = [one for name, one in entries.items() if name.endswith("/data.pkl")]
    if not pickles:
        raise CheckpointError(
            f"{path} is an archive, but not one of torch.save; if the file of weights is inside, unpack it"
        )
    if any(one.file_size > LARGEST_PICKLE for one in pickles):
        raise ValueError(f"its pickle has more than {LARGEST_PICKLE} bytes")
    pickle: bytes = torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")  # the very bytes that torch will read
    tuples = sum(pickle.count(opcode) for opcode in (b"\x85", b"\x86", b"\x87", b"t"))
    if len(pickle) > MOST_OPCODES or tuples > HARMLESS:
        _check_pickle(BytesIO(pickle))


def _check_pickle(file: IO[bytes]) -> None:
    """Refuse a pickle that would crash Python, or keep it busy, before torch finds anything wrong with it.

    torch's own unpickler runs no code, but it builds tuples of any depth. As a key of a dictionary a tuple is hashed,
    and that recurses in C, unchecked: 2 MB of a pickle overflow the stack. So this goes through the opcodes and keeps,
    for each thing on the unpickler's stack, only how deep tuples nest in it.
    """
    import pickletools

    stack: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        before, after, name = opcode.stack_before, opcode.stack_after, opcode.name
        if name == "MARK":
            marks.append(len(stack))
            continue
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[argument or 0] = stack[-1]
            continue
        if pickletools.markobject in before:
            first = marks.pop() - before.index(pickletools.markobject)
        else:
            first = len(stack) - len(before)
        depth = max(stack[first:], default=0)
        if name in ("BINGET", "LONG_BINGET"):
            depth = memo[argument or 0]
        elif name.startswith("TUPLE"):
            depth += 1
        del stack[first:]
        stack += [depth] * len(after)
        if depth > DEEPEST:
            raise ValueError(f"tuples in it nest deeper than {DEEPEST} levels")
        if count > MOST_OPCODES:
            raise ValueError(f"its pickle has more than {MOST_OPCODES} opcodes")


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """The error for a place that the system does not let us look at."""
    return CheckpointError(
        f"{path} cannot be read: {getattr(error, 'strerror', None) or reason(error)}; "
        "see to the permissions and links that lead there"
    )


def reason(error: Exception) -> str:
    """The first sentence of what a library has to say, without its advice to load unsafely."""
    said = re.split(r"WeightsUnpickler error: |Weights only load failed\. ", str(error))[-1].strip()
    said = re.split(r"\n|\. ", said)[0].removesuffix(".")
    return short(f"KeyError: {said}" if isinstance(error, KeyError) else said) or type(error).__name__


def short(text: str, length: int = 160) -> str:
    """A text out of a file, as fit for a line of a message."""
    text = "".join(one if one.isprintable() else "?" for one in text[: length + 1])
    return text if len(text) <= length else text[: length - 3] + "..."


def kind_of(value: Any) -> str:
    """A value's type, with its article."""
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
