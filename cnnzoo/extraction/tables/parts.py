"""The parts of a table that is being made: a file for each few hundred images, in a folder beside it.

A part is finished or not there. So a run that was killed, at any moment, goes on with the parts that are missing, and
ends with the same table, byte for byte. One that could say good-bye leaves the part that it was at as well, with the
batches that were done.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnnzoo.errors import DataError
from cnnzoo.extraction.tables.folder import ImageFolder, labels
from cnnzoo.extraction.tables.table import KEY, Column, encoded, origin_in, write_stream
from cnnzoo.support.files import replacing

LONG = {
    "weights": "the network has other weights",
    "transforms": "the images are prepared in another way",
    "folder": "images were added, removed or changed",
}
"""What it means that these differ, which are too long to be shown."""

BEGUN = ".begun"
"""The end of the name of a part that is not finished."""


@dataclass(frozen=True)
class Begun:
    """A part that is being made: the features of its first images.

    Attributes:
        done: how many of its images are done, those that could not be read among them.
        rows: their features, in pieces (n, F).
        skipped: why images could not be read, by number.
    """

    done: int = 0
    rows: tuple[Tensor, ...] = ()
    skipped: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """A part on disk: how many rows it has, and which of its images could not be read."""

    path: Path
    rows: int
    skipped: dict[int, str]

    @property
    def features(self) -> Tensor:
        """(rows, F), mapped."""
        from safetensors import safe_open

        with safe_open(self.path, framework="pt") as opened:
            return opened.get_tensor("features")


@dataclass(frozen=True)
class Parts:
    """The parts of one table.

    Attributes:
        path: where the table is going to be.
        images: how many there are.
        size: how many of them belong to a part.
        width: F, the features of an image.
        dtype: of the features.
    """

    path: Path
    images: int
    size: int
    width: int
    dtype: torch.dtype

    @property
    def folder(self) -> Path:
        """Where the parts are."""
        return self.path.with_name(self.path.name + ".parts")

    @property
    def index(self) -> Path:
        """The file that says what run the parts are of."""
        return self.folder / "index.json"

    def __len__(self) -> int:
        return -(-self.images // self.size)

    def span(self, number: int) -> range:
        """The images of a part."""
        return range(number * self.size, min((number + 1) * self.size, self.images))

    def finished_before(self, origin: Mapping[str, Any]) -> bool:
        """Whether the table is there already.

        Raises:
            DataError: there is a file of that name, but it is of another run.
        """
        from safetensors import SafetensorError, safe_open

        if not self.path.exists():
            return False
        try:
            with safe_open(self.path, framework="pt") as opened:
                there = origin_in(opened.metadata(), self.path)
        except (SafetensorError, OSError, DataError):
            raise DataError(f"{self.path} is there already and is no table of features; choose another name") from None
        self._same_run(self.path, there, origin)
        return True

    def begin(self, origin: Mapping[str, Any]) -> None:
        """Make the folder of the parts, or go on with the one that is there.

        Raises:
            DataError: the parts there are of another run, or the folder cannot be made or has no room for them.
        """
        if self.index.exists():
            try:
                there = dict(json.loads(self.index.read_text("utf-8")))
            except (ValueError, TypeError):
                raise DataError(f"{self.index} is damaged; delete {self.folder} to start afresh") from None
            self._same_run(self.folder, there, origin)
        else:
            try:
                self.folder.mkdir(exist_ok=True)
                if any(self.folder.glob("*.safetensors")):
                    raise DataError(
                        f"{self.folder} holds parts, but no {self.index.name} that says of what; move "
                        "it away, or choose another name for the table"
                    )
                with replacing(self.index) as aside:
                    aside.write_text(json.dumps(origin, indent=1), "utf-8")
            except OSError as error:
                raise DataError(
                    f"{self.path} cannot be written: {error.strerror}: {error.filename}; choose another place"
                ) from None

    def finished(self) -> dict[int, Part]:
        """The parts that are there, whole, by number.

        The folder is listed first: a network's file system remembers for a while that a file was not there.
        """
        names = {path.name for path in self.folder.iterdir()}
        there = (number for number in range(len(self)) if self._path(number).name in names)
        return {number: part for number in there if (part := self.read(number))}

    def check_room(self, missing: Iterable[int]) -> None:
        """Raise `DataError` if the disk has too little room for the parts that are missing and for the table."""
        row = self.width * self.dtype.itemsize
        needed = row * (sum(len(self.left(number)) for number in missing) + self.images)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise DataError(
                f"{self.path.parent.absolute()} has {free / 1e9:.3g} GB left; the parts and the table "
                f"of {self.images:,} images with {self.width:,} features need {needed / 1e9:.3g} GB; make room, or "
                "choose another place"
            )

    def read(self, number: int) -> Part | None:
        """A part, or None where it is missing or damaged."""
        path = self._path(number)
        found = self._opened(path)
        if found is None:
            return None
        features, skipped, _ = found
        return Part(path, len(features), skipped) if len(features) == len(self.span(number)) - len(skipped) else None

    def begun(self, number: int) -> Begun:
        """What is there of a part that is not finished."""
        found = self._opened(self._path(number, BEGUN))
        if found is None:
            return Begun()
        features, skipped, done = found
        whole = 0 < done < len(self.span(number)) and len(features) == done - len(skipped)
        return Begun(done, (features.clone(),), skipped) if whole else Begun()

    def left(self, number: int) -> range:
        """The images of a part that are not done."""
        span = self.span(number)
        return range(span.start + self.begun(number).done, span.stop)

    def write(self, number: int, part: Begun) -> None:
        """Add a part, or what is done of it."""
        whole = part.done == len(self.span(number))
        features = torch.cat(part.rows) if part.rows else torch.empty(0, self.width, dtype=self.dtype)
        said = {"skipped": json.dumps(part.skipped)} | ({} if whole else {"done": str(part.done)})
        with replacing(self._path(number, "" if whole else BEGUN)) as aside:
            write_stream(aside, {"features": Column.of(features.cpu())}, said)
        if whole:
            self._path(number, BEGUN).unlink(missing_ok=True)

    def _opened(self, path: Path) -> tuple[Tensor, dict[int, str], int] | None:
        """The features of a part, what could not be read, and how many images are done; None where it is damaged."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as opened:
                said = opened.metadata()
                skipped = {int(key): why for key, why in json.loads(said["skipped"]).items()}
                features = opened.get_tensor("features")
                done = int(said.get("done", 0))
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            return None
        whole = features.shape == (len(features), self.width) and features.dtype == self.dtype
        return (features, skipped, done) if whole else None

    def join(self, folder: ImageFolder, origin: Mapping[str, Any]) -> None:
        """Make the table of all parts, and remove them.

        Raises:
            DataError: a part is not there, or none of the images could be read.
        """
        parts = [self._present(number) for number in range(len(self))]
        skipped = {number: why for part in parts for number, why in part.skipped.items()}
        if len(skipped) == self.images:
            raise DataError(f"none of the {self.images:,} images in {folder.root} could be read: {skipped[0]}")
        files = [name for number, name in enumerate(folder.files) if number not in skipped]
        classes = folder.classes
        columns = {"labels": Column.of(torch.tensor(labels(files, classes)))} if classes else {}
        columns |= {
            "features": Column(self.dtype, (len(files), self.width), (part.features for part in parts)),
            "files": Column.of(encoded(files)),
            "classes": Column.of(encoded(classes)),
            "skipped": Column.of(encoded({folder.files[number]: why for number, why in skipped.items()})),
        }
        joined = self.folder / "joined"
        write_stream(joined, columns, {KEY: json.dumps(origin)})
        joined.replace(self.path)
        self.remove()

    def remove(self) -> None:
        """Take the parts away, what was left by a run that was killed included; the folder stays if it holds more."""
        for pattern in ("[0-9]*.safetensors*", "joined", f"{self.index.name}*"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    def _present(self, number: int) -> Part:
        part = self.read(number)
        if part is None:
            raise DataError(
                f"{self._path(number)} is not there, or not whole; processes on several machines need a "
                "folder that all of them share; the same command goes on"
            )
        return part

    def _path(self, number: int, form: str = "") -> Path:
        return self.folder / f"{number:07}.safetensors{form}"

    def _same_run(self, place: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
        differing = [
            LONG.get(key, f"{key} {there.get(key)} there, {here.get(key)} here")
            for key in dict(there) | dict(here)
            if there.get(key) != here.get(key)
        ]
        if differing:
            raise DataError(
                f"{place} is of another run: {'; '.join(differing)}; choose another name for the table, "
                f"or delete {place.name}"
            )
