"""Read the directory of a zip archive whose files lie in it as they are.

`torch.save` writes such archives. Readers of zip files disagree about what counts where an archive contradicts itself;
this one alone decides, and takes no archive that leaves a choice.
"""

import struct
from mmap import mmap
from typing import NamedTuple

LARGEST_DIRECTORY = 16 * 2**20
"""Bytes; that of a ResNet-152 with its optimiser's state has 0.3 MB."""

_END = struct.Struct("<4s4H2IH")  # signature, disks and entries twice, size and place of the directory, comment
_LOCATOR = struct.Struct("<4sIQI")  # signature, disk, place of the wide end, disks
_WIDE_END = struct.Struct("<4sQ2H2I4Q")  # signature, size, versions, disks, entries twice, size and place
_ENTRY = struct.Struct(
    "<4s4H4s3I5H2I"
)  # versions, flags, method, time, sum, two sizes, three lengths, disk, kind, place
_LOCAL = struct.Struct("<4s3H4s3I2H")


class Entry(NamedTuple):
    """A file in an archive: where its local header is, its length, and how it is packed."""

    header: int
    size: int
    stored: bool


def read_directory(buffer: mmap | bytes) -> tuple[dict[str, Entry], int]:
    """The files of an archive by name, and where its directory begins.

    Raises:
        ValueError: the directory is damaged, larger than it may be, or leaves a choice.
    """
    end = len(buffer) - _END.size
    if end < 0 or buffer[end : end + 4] != b"PK\5\6":
        raise ValueError("it does not end as an archive does")
    _, *_, count, size, place, comment = _END.unpack_from(buffer, end)
    if comment:
        raise ValueError("its end is not that of an archive")
    if buffer[max(0, end - _LOCATOR.size) : end].startswith(b"PK\6\7"):
        _, _, wide, _ = _LOCATOR.unpack_from(buffer, end - _LOCATOR.size)
        end = wide
        if wide > len(buffer) - _WIDE_END.size or buffer[wide : wide + 4] != b"PK\6\6":
            raise ValueError("its directory cannot be found")
        *_, count, size, place = _WIDE_END.unpack_from(buffer, wide)
    if place + size != end:
        raise ValueError("its directory is not where its end says")
    if size > LARGEST_DIRECTORY:
        raise ValueError(f"its directory has more than {LARGEST_DIRECTORY} bytes")
    entries: dict[str, Entry] = {}
    at = place
    while at < end:
        name, entry, at = _entry(buffer, at, end)
        if name in entries:
            raise ValueError("two files in it have one name")
        entries[name] = entry
    if len(entries) != count:
        raise ValueError("its directory has another length than its end says")
    return entries, place


def _entry(buffer: mmap | bytes, at: int, end: int) -> tuple[str, Entry, int]:
    if at > end - _ENTRY.size or buffer[at : at + 4] != b"PK\1\2":
        raise ValueError("its directory is damaged")
    _, _, _, flags, method, _, _, packed, size, long, extra, comment, _, _, _, header = _ENTRY.unpack_from(buffer, at)
    named = at + _ENTRY.size
    after = named + long + extra + comment
    if after > end:
        raise ValueError("its directory is damaged")
    wide = _wide(buffer[named + long : named + long + extra])
    size, packed, header = (next(wide, one) if one == 0xFFFFFFFF else one for one in (size, packed, header))
    stored = method == 0 and packed == size and not flags & 1
    return buffer[named : named + long].decode("utf-8", "replace"), Entry(header, size, stored), after


def _wide(extra: bytes):
    """The numbers of 64 bits that an entry has in place of those that do not fit into 32."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            body = extra[at + 4 : at + 4 + length]
            yield from (number for (number,) in struct.iter_unpack("<Q", body[: len(body) // 8 * 8]))
            return
        at += 4 + length


def place_of(buffer: mmap | bytes, name: str, entry: Entry, limit: int) -> int:
    """Where the bytes of a file begin.

    Raises:
        ValueError: its own header says something else than the directory, or it does not end before `limit`.
    """
    if entry.header > limit - _LOCAL.size or buffer[entry.header : entry.header + 4] != b"PK\3\4":
        raise ValueError(f"{name[-80:]!r} in it is damaged")
    *_, long, extra = _LOCAL.unpack_from(buffer, entry.header)
    named = entry.header + _LOCAL.size
    begin = named + long + extra
    if buffer[named : named + long].decode("utf-8", "replace") != name or begin + entry.size > limit:
        raise ValueError(f"{name[-80:]!r} in it is damaged")
    return begin
