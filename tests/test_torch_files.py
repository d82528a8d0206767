"""Files of torch.save are read without an unpickler: equal to what torch reads, and bounded whatever they hold."""

import argparse
import io
import pickle
import resource
import struct
import sys
import time
import zipfile
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import cnnzoo
from cnnzoo.checkpoints.pickles import DTYPES
from cnnzoo.checkpoints.weights import read_weights


def saved(found: object, path: Path, **how: Any) -> Path:
    torch.save(found, path, **how)
    return path


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Equal in every bit, and laid out alike."""
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        got = ours[name]
        assert (got.dtype, got.shape, got.stride()) == (tensor.dtype, tensor.shape, tensor.stride()), name
        assert not got.requires_grad
        assert got.storage_offset() == tensor.storage_offset()
        raw = [one.detach().clone(memory_format=torch.contiguous_format).view(-1) for one in (got, tensor)]
        assert not tensor.numel() or torch.equal(*(one.view(torch.uint8) for one in raw)), name


HOW = [
    {},
    {"pickle_protocol": 3},
    {"pickle_protocol": 4},
    {"pickle_protocol": 5},
    {"_use_new_zipfile_serialization": False},
    {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
]


def tensor_of(dtype: torch.dtype, *shape: int) -> Tensor:
    """Any bits, but for truth values, which have one of two."""
    if dtype == torch.bool:
        return torch.randint(0, 2, shape).bool()
    raw = torch.randint(0, 256, (*shape[:-1], shape[-1] * dtype.itemsize), dtype=torch.uint8)
    return raw.view(dtype)


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("how", HOW, ids=str)
def test_every_dtype_is_read_as_it_was_written(tmp_path: Path, how: dict, mmap: bool) -> None:
    made = {}
    for name, dtype in DTYPES.items():
        tensor = tensor_of(dtype, 5, 7)
        made |= {
            name: tensor,
            f"{name}.turned": tensor.t(),
            f"{name}.part": tensor[1:4:2, 3:],
            f"{name}.scalar": tensor[2, 2],
            f"{name}.none": tensor[:0],
        }
    path = saved(made, tmp_path / "a.pth", **how)
    same(read_weights(path, mmap=mmap)[0], made)
    if how == {}:  # torch reads not all that it writes
        same(torch.load(path, weights_only=True), made)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_views_of_shared_storages(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    storages = [torch.randn(data.draw(st.integers(0, 40))) for _ in range(data.draw(st.integers(1, 3)))]
    made = {}
    for number in range(data.draw(st.integers(1, 6))):
        base = data.draw(st.sampled_from(storages))
        size = data.draw(st.lists(st.integers(0, 4), max_size=4))
        stride = data.draw(st.lists(st.integers(0, 12), min_size=len(size), max_size=len(size)))
        offset = data.draw(st.integers(0, 10))
        reach = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        numbers = torch.Size(size).numel()
        if 0 not in size and (reach >= len(base) or numbers > len(base)):
            continue
        made[f"t{number}"] = base.as_strided(size, stride, offset if numbers else 0)
    path = tmp_path_factory.mktemp("shared") / "a.pth"
    saved(made, path, **data.draw(st.sampled_from(HOW)))
    read = read_weights(path)[0]
    same(read, made)
    for one in made:
        for other in made:
            shared = made[one].untyped_storage().data_ptr() == made[other].untyped_storage().data_ptr()
            if made[one].numel() and made[other].numel():
                assert shared == (read[one].untyped_storage().data_ptr() == read[other].untyped_storage().data_ptr())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.int16])
def test_files_of_a_machine_with_the_other_byte_order(tmp_path: Path, dtype: torch.dtype) -> None:
    other = "big" if sys.byteorder == "little" else "little"
    made = {"a": tensor_of(dtype, 3, 5), "b": tensor_of(dtype, 4)[1:]}
    saved(made, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as before, zipfile.ZipFile(tmp_path / "b.pth", "w") as after:
        for one in before.infolist():
            part = before.read(one)
            after.writestr(one.filename, other.encode() if one.filename.endswith("byteorder") else part)
    for mmap in (True, False):
        read = read_weights(tmp_path / "b.pth", mmap=mmap)[0]
        for name, tensor in made.items():
            width = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
            swapped = tensor.contiguous().view(torch.uint8).view(-1, width).flip(1)
            assert torch.equal(read[name].contiguous().view(torch.uint8).view(-1, width), swapped)


STATE = cnnzoo.create("lenet5", seed=0).state_dict()


class Recorder:
    """A class of somebody's program."""

    def __init__(self) -> None:
        self.losses = [0.5, 0.25]


FOREIGN: dict[str, Any] = {
    "args": argparse.Namespace(lr=0.1, data="x", model="lenet5"),
    "path": Path("/tmp/x"),
    "numpy scalar": numpy.float64(0.5),
    "numpy array": numpy.arange(5),
    "numpy generator": numpy.random.RandomState(0).get_state(),
    "set": {1, 2},
    "frozenset": frozenset("a"),
    "complex": 1j,
    "bytes": b"abc",
    "bytearray": bytearray(b"abc"),
    "slice": slice(1),
    "long": 2**2000,
    "longer": 2**5000,
    "dtype": torch.float32,
    "device": torch.device("cpu"),
    "size": torch.Size([1]),
    "class": Recorder,
    "object": Recorder(),
    "function": cnnzoo.create,
    "counter": Counter("aab"),
    "default": defaultdict(list, a=[1]),
    "module": nn.Linear(2, 2),
    "sparse": torch.eye(2).to_sparse(),
    "keys": {1: 2, (1, 2): 3, None: 4},
    "surrogate": "a\udcff",
    "nothing": None,
    "optimizer": torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9).state_dict(),
    "scaler": torch.amp.GradScaler("cpu").state_dict(),
    "rng": torch.get_rng_state(),
}


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("what", FOREIGN)
def test_whatever_lies_beside_the_tensors_is_left_alone(tmp_path: Path, what: str, how: dict) -> None:
    path = saved({"model": OrderedDict(STATE), what: FOREIGN[what], "more": [FOREIGN[what]]}, tmp_path / "a.pth", **how)
    same(read_weights(path)[0], STATE)


def test_a_circle_of_containers(tmp_path: Path) -> None:
    circle: dict[str, Any] = {"model": STATE}
    circle["self"] = circle
    circle["list"] = [circle]
    same(read_weights(saved(circle, tmp_path / "a.pth"))[0], STATE)


class Tagged(Tensor):
    """A class of its own for tensors."""


def test_tensors_with_attributes(tmp_path: Path) -> None:
    tensor, parameter = torch.ones(2), nn.Parameter(torch.ones(3))
    tensor.note = parameter.note = "x"  # pyright: ignore[reportAttributeAccessIssue]
    same(read_weights(saved({"a": tensor, "b": parameter}, tmp_path / "a.pth"))[0], {"a": tensor, "b": parameter})
    saved({"a": torch.ones(2).as_subclass(Tagged)}, tmp_path / "b.pth")
    with pytest.raises(cnnzoo.CheckpointError, match=r"refers to '\S+\.Tagged', which was not run"):
        read_weights(tmp_path / "b.pth")


# What a pickle that nobody's torch wrote may say.


def opcodes(*parts: object) -> bytes:
    """A pickle of these parts: bytes as they are, texts and small numbers as instructions that push them."""
    made = [pickle.PROTO, b"\2"]
    for part in parts:
        if isinstance(part, str):
            made += [pickle.BINUNICODE, struct.pack("<I", len(part.encode())), part.encode()]
        elif isinstance(part, int):
            made += [pickle.BININT, struct.pack("<i", part)]
        else:
            assert isinstance(part, bytes)
            made.append(part)
    return b"".join([*made, pickle.STOP])


def archive(path: Path, content: bytes, numbers: bytes = bytes(24), **more: bytes) -> Path:
    """A file as torch.save writes it, with this pickle and one storage, called 0."""
    with zipfile.ZipFile(path, "w") as made:
        for name, part in {"data.pkl": content, "byteorder": sys.byteorder.encode(), "data/0": numbers, **more}.items():
            made.writestr(f"archive/{name}", part)
    return path


FLOATS = (b"(", "storage", b"ctorch\nFloatStorage\n", "0", "cpu", 6, b"tQ")
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def tensor(offset: object, size: bytes, stride: bytes, storage: tuple = FLOATS) -> bytes:
    """A dictionary with a tensor called w, whose offset, size and stride are pushed by these instructions."""
    return opcodes(b"}", "w", REBUILD, b"(", *storage, offset, size, stride, b"\x89N", b"tRs")


def test_a_tensor_by_hand(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pth", tensor(1, b"K\2K\2\x86", b"K\3K\1\x86"), struct.pack("=6f", *range(6)))
    assert read_weights(path)[0]["w"].tolist() == [[1, 2], [4, 5]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tensor(0, b"K\7\x85", b"K\1\x85"), "a tensor that leads out of its storage"),
        (tensor(1, b"K\6\x85", b"K\1\x85"), "a tensor that leads out of its storage"),
        (tensor(0, b"K\2K\3\x86", b"K\4K\1\x86"), "a tensor that leads out of its storage"),
        (tensor(-1, b"K\1\x85", b"K\1\x85"), "describes a tensor wrongly"),
        (tensor(0, b"J\xff\xff\xff\xff\x85", b"K\1\x85"), "describes a tensor wrongly"),
        (tensor(1, b"K\2\x85", b"J\xff\xff\xff\xff\x85"), "describes a tensor wrongly"),
        (tensor(0, b"K\1\x85", b"K\1K\1\x86"), "describes a tensor wrongly"),
        (tensor(0, b"\x88\x85", b"K\1\x85"), "describes a tensor wrongly"),
        (tensor(b"G" + struct.pack(">d", 0.0), b"K\1\x85", b"K\1\x85"), "describes a tensor wrongly"),
        (tensor(0, b"]", b"]"), "describes a tensor wrongly"),
        (tensor(0, b"(" + b"K\1" * 65 + b"t", b"(" + b"K\1" * 65 + b"t"), "describes a tensor wrongly"),
        (tensor(0, b"\x8a\x08\0\0\0\0\0\0\0\x40K\0\x86", b"K\1K\1\x86"), "describes a tensor (wrongly|of more numbers)"),
        (tensor(0, b"K\0\x8a\7\0\0\0\0\0\0\1\x8a\7\0\0\0\0\0\0\1\x87", b"K\1K\1K\1\x87"), "of more numbers than there can be"),
        (tensor(0, b"K\7\x85", b"K\0\x85"), "is sparse, quantised or without its numbers"),
        (tensor(0, b"K\1\x85", b"K\1\x85", (b"(", "storage", b"ctorch\nFloatStorage\n", "0", "cpu", 7, b"tQ")), "numbers of storage '0' are not all there"),
        (tensor(0, b"K\1\x85", b"K\1\x85", (b"(", "storage", b"ctorch\nFloatStorage\n", "1", "cpu", 6, b"tQ")), "numbers of storage '1' are missing"),
        (tensor(0, b"K\1\x85", b"K\1\x85", (b"(", "storage", b"ctorch\nFloatStorage\n", "../data/0", "cpu", 6, b"tQ")), "are missing"),
        (tensor(0, b"K\1\x85", b"K\1\x85", (b"(", "storage", b"ctorch\nFloatStorage\n", "0", "cpu", -6, b"tQ")), "describes a storage wrongly"),
        (tensor(0, b"K\1\x85", b"K\1\x85", (b"(", "storage", "torch.FloatStorage", "0", "cpu", 6, b"tQ")), "describes a storage wrongly"),
        (tensor(0, b"K\1\x85", b"K\1\x85", (b"ctorch\nQInt8Storage\n",)), "is sparse, quantised or without its numbers"),
        (tensor(0, b"K\1\x85", b"K\1\x85", (b"(", "storage", b"ctorch\nQInt8Storage\n", "0", "cpu", 6, b"tQ")), "is sparse, quantised"),
        (opcodes(b"}", "w", REBUILD, b")R", b"s"), "its pickle is damaged near byte"),
        (opcodes(b"}", "w", REBUILD, b"K\1R", b"s"), "its pickle is damaged near byte"),
        (opcodes(b"}", "w", REBUILD, b"(", *FLOATS, 0, b"K\1\x85K\1\x85\x89NtR", b"}b", b"s"), "gives attributes to something that has none"),
        (opcodes(b"ccollections\nOrderedDict\n)R", b"}", "keys", 1, b"s", b"b", "w", 1, b"s"), "holds an int under 'w'"),
        (opcodes(b"h\5"), "its pickle is damaged near byte"),
        (opcodes(b"00"), "its pickle is damaged near byte"),
        (opcodes(b"(0"), "takes more from its stack than is there"),
        (opcodes(b"}(K\1u"), "has a key without a value"),
        (opcodes(b"I01\n"), "has the instruction 0x49, which torch.save does not write"),
        (opcodes(b"cos\nsystem"), "its pickle is damaged near byte|without an end to its name"),
        (opcodes(b"c" + b"a" * 600 + b"\nb\n"), "refers to something without an end to its name"),
        (opcodes("a" * 600, b"q\0", b"0", b"h\0h\0\x93"), "refers to something by what is no name"),
        (opcodes(b"X\xff\xff\xff\x7f"), "its pickle has no end"),
        (opcodes(b"r\xff\xff\xff\x7f"), "remembers more than 600000 things"),
        (opcodes(b"}X\1\0\0\0\xff", b"K\1s"), "is not a whole file of torch.save"),
    ],
)  # fmt: skip
def test_pickles_that_say_what_cannot_be(tmp_path: Path, content: bytes, message: str) -> None:
    path = archive(tmp_path / "a.pth", content)
    for mmap in (True, False):
        with pytest.raises(cnnzoo.CheckpointError, match=message):
            read_weights(path, mmap=mmap)


MANY = 590_000

BOMBS = {
    "encode": lambda: opcodes(b"c_codecs\nencode\n", "a" * 2**20, "utf-32", b"\x86R"),
    "encode again": lambda: opcodes(b"c_codecs\nencode\nq\0", "a", b"q\1", *[b"h\0h\1\x85R"] * 100_000),
    "bytearray": lambda: opcodes(b"cbuiltins\nbytearray\n", b"J\x00\xca\x9a\x3b\x85R"),
    "set of bytearray": lambda: opcodes(b"cbuiltins\nset\ncbuiltins\nbytearray\n", b"J\x00\xca\x9a\x3b\x85R\x85R"),
    "counter": lambda: opcodes(b"ccollections\nCounter\ncbuiltins\nbytearray\n", b"J\x00\xca\x9a\x3b\x85R\x85R"),
    "size": lambda: opcodes(b"ctorch\nSize\n", b"]", b"(" + b"K\1" * 200_000 + b"e", b"\x85R"),
    "tensor": lambda: opcodes(b"ctorch\nTensor\n", b"J\x00\xca\x9a\x3b\x85R"),
    "storage called": lambda: opcodes(*FLOATS, b")R"),
    "pairs again": lambda: opcodes(b"ccollections\nOrderedDict\nq\0", b"](", *[b"\x8c\1aN\x86"] * 1000, b"e\x85q\1", *[b"h\0h\1R"] * 100_000),
    "dictionaries": lambda: opcodes(b"}" * MANY),
    "tuples": lambda: opcodes(b")" + b"\x85" * MANY),
    "names": lambda: opcodes(*[b"cos\nsystem\n"] * (MANY // 2)),
    "long names": lambda: opcodes("a" * 500, b"q\0", "b", b"q\1", b"h\0h\1\x93" * (MANY // 3)),
    "sizes again": lambda: opcodes(b"(" + b"K\1" * 64 + b"tq\0", REBUILD, b"q\1", *FLOATS, b"q\2", *[b"h\1(h\2K\0h\0h\0\x89NtR"] * 50_000),
    "memo": lambda: opcodes(b")" + b"r\xbf\x27\x09\x00" * (MANY // 2)),
    "text": lambda: opcodes("\U0001f600" * 2**20),
    "integers as keys": lambda: opcodes(b"}(", *[b"\x8a\x10" + struct.pack("<QQ", 2**61 - 1, i)+ b"N" for i in range(100_000)], b"u"),
}  # fmt: skip
"""Pickles with which torch's own weights-only reader takes gigabytes or minutes, and others of the kind."""


@pytest.mark.parametrize("name", BOMBS)
def test_pickles_cost_no_more_than_their_size_allows(tmp_path: Path, name: str) -> None:
    """Less than 5 seconds of a processor, which are 1 on a quiet machine, and less than 300 MiB of memory."""
    path = archive(tmp_path / "a.pth", BOMBS[name]())
    memory, started = peak(), time.process_time()
    with pytest.raises(cnnzoo.CheckpointError):
        cnnzoo.load_pretrained("lenet5", checkpoint=path)
    assert time.process_time() - started < 5
    assert peak() - memory < 300 * 2**20


def peak() -> int:
    """Most bytes of memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def test_tensors_that_share_a_storage_too_often(tmp_path: Path) -> None:
    shared = torch.ones(2**18)
    path = saved({f"t{i}": shared for i in range(9)}, tmp_path / "a.pth")
    with pytest.raises(cnnzoo.CheckpointError, match="its tensors together are more than 8 times as large as the file"):
        read_weights(path)
    same(read_weights(saved({f"t{i}": shared for i in range(7)}, path))[0], {f"t{i}": shared for i in range(7)})


# Archives in which readers of zip files see different things.


def parts_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        return {one.filename: opened.read(one) for one in opened.infolist()}


def torch_bytes(found: object) -> bytes:
    file = io.BytesIO()
    torch.save(found, file)
    return file.getvalue()


def zipped(parts: dict[str, bytes], **how: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **how) as made:
        for name, part in parts.items():
            made.writestr(name, part)
    return file.getvalue()


def test_archives_packed_again(tmp_path: Path) -> None:
    """Unpacked and packed by another program, without compression: the storages are no longer aligned."""
    parts = parts_of(torch_bytes(STATE))
    path = tmp_path / "a.pth"
    for content in (zipped(parts), zipped(dict(reversed(parts.items()))), zipped({"archive/": b"", **parts})):
        path.write_bytes(content)
        for mmap in (True, False):
            same(read_weights(path, mmap=mmap)[0], STATE)


def end_record(content: bytes) -> int:
    return content.rindex(b"PK\5\6")


def changed(content: bytes, at: int, form: str, value: int) -> bytes:
    made = bytearray(content)
    struct.pack_into(form, made, at, value)
    return bytes(made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c + zipped({"a": b""})[-22:], "its directory is not where its end says|not one of torch.save"),
        (lambda c: c + b"x", "does not end as an archive does"),
        (lambda c: c[:-2] + b"\x16\0" + c[-22:], "does not end as|not where its end says|end is not"),
        (lambda c: b"PK\3\4" + bytes(40) + c, "its directory is not where its end says"),
        (lambda c: changed(c, end_record(c) + 16, "<I", 0), "its directory is not where its end says"),
        (lambda c: changed(c, end_record(c) + 12, "<I", 2**32 - 2), "its directory is not where its end says"),
        (lambda c: changed(c, end_record(c) + 10, "<H", 3), "its directory has another length than its end says"),
        (lambda c: changed(c, c.index(b"PK\1\2"), "<I", 7), "its directory is damaged"),
        (lambda c: changed(c, c.index(b"PK\1\2") + 28, "<H", 60000), "its directory is damaged"),
        (lambda c: changed(c, c.index(b"PK\1\2") + 8, "<H", 1), "is a compressed archive"),
        (lambda c: changed(c, c.index(b"PK\1\2") + 10, "<H", 8), "is a compressed archive"),
        (lambda c: changed(c, c.index(b"PK\1\2") + 42, "<I", 5), "in it is damaged"),
        (lambda c: changed(c, c.index(b"PK\1\2") + 42, "<I", 2**32 - 1), "is not a whole file of torch.save"),
        (lambda c: changed(changed(c, c.index(b"PK\1\2") + 20, "<I", 10**8), c.index(b"PK\1\2") + 24, "<I", 10**8), "in it is damaged|more than \\d+ bytes"),
        (lambda c: changed(c, c.index(b"data.pkl"), "<I", 0x41414141), "in it is damaged"),
        (lambda c: changed(c, c.rindex(b"data.pkl"), "<I", 0x41414141), "is an archive, but not one of torch.save"),
    ],
)  # fmt: skip
def test_archives_that_contradict_themselves(tmp_path: Path, change: Callable, message: str) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(change(zipped(parts_of(torch_bytes(STATE)))))
    with pytest.raises(cnnzoo.CheckpointError, match=message):
        read_weights(path)


def test_archives_with_two_files_of_one_name(tmp_path: Path) -> None:
    parts = parts_of(torch_bytes(STATE))
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as made:
        for name, part in parts.items():
            made.writestr(name, part)
        with pytest.warns(UserWarning, match="Duplicate name"):
            made.writestr("archive/data.pkl", b"")
    with pytest.raises(cnnzoo.CheckpointError, match="two files in it have one name"):
        read_weights(path)
    path.write_bytes(zipped({**parts, "other/data.pkl": b""}))
    with pytest.raises(cnnzoo.CheckpointError, match="it holds several pickles"):
        read_weights(path)


def test_storages_that_overlap_are_not_copied_without_end(tmp_path: Path) -> None:
    """Many entries of the directory that point to the same bytes."""
    made = {f"t{i}": torch.full((1000,), float(i)) for i in range(100)}
    content = torch_bytes(made)
    first = content.index(b"PK\1\2")
    at, headers = first, []
    while content[at : at + 4] == b"PK\1\2":
        name, extra, comment = struct.unpack_from("<3H", content, at + 28)
        headers.append((content[at + 46 : at + 46 + name], at))
        at += 46 + name + extra + comment
    path = tmp_path / "a.pth"
    place = dict(headers)
    broken = (
        changed(content, place[b"a/data/7"] + 42, "<I", struct.unpack_from("<I", content, place[b"a/data/8"] + 42)[0])
        if b"a/data/7" in place
        else None
    )
    if broken is None:
        name = next(one for one in place if one.endswith(b"data/7"))
        other = next(one for one in place if one.endswith(b"data/8"))
        broken = changed(content, place[name] + 42, "<I", struct.unpack_from("<I", content, place[other] + 42)[0])
    path.write_bytes(broken)
    with pytest.raises(cnnzoo.CheckpointError, match="data/7' in it is damaged"):
        read_weights(path)


def test_large_archives(tmp_path: Path) -> None:
    """torch writes 64-bit records; of a small file they hold small numbers."""
    path = saved(STATE, tmp_path / "a.pth")
    content = path.read_bytes()
    assert b"PK\6\6" in content
    wide = changed(content, end_record(content) + 16, "<I", 2**32 - 1)
    path.write_bytes(wide)
    same(read_weights(path)[0], STATE)
    path.write_bytes(changed(content, end_record(content) - 20 + 8, "<Q", 2**40))
    with pytest.raises(cnnzoo.CheckpointError, match="its directory cannot be found"):
        read_weights(path)


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    """A tensor beside the weights may be damaged, or larger than the memory."""
    content = torch_bytes({"model": STATE, "optimizer": torch.full((999,), 7.0)})
    parts = parts_of(content)
    gone = next(name for name, part in parts.items() if len(part) == 999 * 4)
    path = tmp_path / "a.pth"
    path.write_bytes(zipped({name: part for name, part in parts.items() if name != gone}))
    same(read_weights(path)[0], STATE)
