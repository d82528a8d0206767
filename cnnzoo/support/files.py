"""Files: written aside and renamed, values as JSON has them, and the tables that come with the package."""

import functools
import os
import tempfile
import tomllib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from cnnzoo.errors import OptionError


@functools.cache
def read_table(name: str) -> dict[str, Any]:
    """A TOML file that comes with the package, such as `papers/lenet.toml`."""
    return tomllib.loads(files("cnnzoo").joinpath(name).read_text("utf-8"))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place at the end, with mode 0644, or is gone after an error."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o644)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_figure(path: Path, formats: Collection[str], what: str, content: Callable[[str], bytes]) -> Path:
    """Write a drawing or a plot, in the form that the end of its name says.

    Args:
        path: of the file, which appears whole or not at all.
        formats: the ends that its name may have, such as `".svg"`.
        what: is written, for the message.
        content: makes the bytes of the file from such an end.

    Raises:
        OptionError: the name has another end, or the file cannot be written.
    """
    form = path.suffix.lower()
    if form not in formats:
        raise OptionError(f"{path}: {what} are written as {', '.join(formats)}; give the path such an end")
    made = content(form)
    try:
        with replacing(path) as aside:
            aside.write_bytes(made)
    except OSError as error:
        raise OptionError(
            f"cannot write {path}: {error.strerror or error}; choose a folder that exists and is writable"
        ) from None
    return path


def plain(value: Any) -> Any:
    """Arguments of a constructor as JSON has them: tensors and tuples become lists."""
    if callable(as_list := getattr(value, "tolist", None)):  # of a tensor, which is not asked for by its class: torch
        return as_list()  # takes seconds to import, and the tables of the package are read without it
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple, range)) else value
