"""Where the files of a data set are: in a folder, or in an archive that is read without being unpacked."""

import tarfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from cnnzoo.errors import DataError


class Place(Protocol):
    """Something with files in it."""

    def __contains__(self, name: str) -> bool: ...

    def read(self, name: str) -> bytes:
        """Read a file.

        Raises:
            DataError: it is missing, or cannot be read.
        """
        ...

    def shown(self, name: str) -> str:
        """The file's name in messages."""
        ...


@dataclass(frozen=True)
class Folder:
    """The files of a folder."""

    path: Path

    def __contains__(self, name: str) -> bool:
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        if name not in self:
            raise _missing(self, name)
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise DataError(f"{self.shown(name)} cannot be read: {error}") from None

    def shown(self, name: str) -> str:
        return str(self.path / name)


@dataclass(frozen=True)
class Archive:
    """The files of a .tar.gz, whatever folder they are in there."""

    path: Path

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The content of all files by name, without folders."""
        try:
            with tarfile.open(self.path) as archive:
                members = ((member, archive.extractfile(member)) for member in archive if member.isfile())
                return {Path(member.name).name: file.read() for member, file in members if file is not None}
        except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
            raise DataError(
                f"{self.path} cannot be read: {error}; it is truncated or no .tar.gz archive: download it again"
            ) from None

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def read(self, name: str) -> bytes:
        if name not in self:
            raise _missing(self, name)
        return self.files[name]

    def shown(self, name: str) -> str:
        return f"{name} in {self.path}"


def _missing(place: Folder | Archive, name: str) -> DataError:
    return DataError(f"{place.path} lacks {name}; a data set is used whole: add the file")
