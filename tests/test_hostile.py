"""Files of weights that are damaged, mislabelled or malicious: each is one CheckpointError that says what to do."""

import io
import json
import os
import pickle
import random
import struct
import time
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import cnnzoo
from cnnzoo.checkpoints.assign import assign
from cnnzoo.checkpoints.folder import describe, inside, read_json, weights_in
from cnnzoo.checkpoints.weights import check_finite, read_weights, write_weights

STATE = cnnzoo.create("lenet5", seed=0).state_dict()


def torch_bytes(found: object, *, old: bool = False) -> bytes:
    """What `torch.save` writes, today or (`old`) before 1.6."""
    file = io.BytesIO()
    torch.save(found, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def safetensors_bytes(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def taken_apart(content: bytes) -> tuple[dict, bytes]:
    """The header and the numbers of a safetensors file."""
    end = 8 + struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:end]), content[end:]


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A safetensors file of a LeNet-5 that says what it is."""
    path = tmp_path_factory.mktemp("valid") / "a.safetensors"
    write_weights(cnnzoo.create("lenet5", seed=0), path)
    return path.read_bytes()


def refused(path: Path, message: str, call: Callable[[Path], object] | None = None) -> None:
    """Loading fails with this message, in which the path stands, and leaves nothing behind."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(cnnzoo.CheckpointError, match=message) as caught:
        (call or (lambda place: cnnzoo.load_pretrained("lenet5", checkpoint=place)))(path)
    text = str(caught.value)
    assert path.name in text
    assert text.isprintable()
    assert len(text) < 1000
    assert sorted(path.parent.rglob("*")) == before


# What is right is read: both formats, mapped or not, however it is wrapped.


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".tar", ""])
def test_files_of_torch_save(tmp_path: Path, suffix: str, old: bool, mmap: bool) -> None:
    path = tmp_path / f"lenet{suffix}"
    path.write_bytes(torch_bytes(STATE, old=old))
    tensors, metadata = read_weights(path, mmap=mmap)
    assert metadata == {}
    assert list(tensors) == list(STATE)
    assert all(torch.equal(tensors[name], STATE[name]) for name in STATE)
    model = cnnzoo.load_pretrained("lenet5", checkpoint=path)
    assert torch.equal(model.c3.weight, STATE["c3.weight"])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "arch": "lenet5"},
        lambda state: {"model": state, "optimizer": {"state": {}}},
        lambda state: {"model_state_dict": state, "loss": 0.5},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}},
        lambda state: {name: torch.nn.Parameter(tensor) for name, tensor in state.items()},
        lambda state: cnnzoo.create("lenet5", seed=0).state_dict(keep_vars=True),
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_nested_and_prefixed_state(tmp_path: Path, wrap: Callable, old: bool) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(torch_bytes(wrap(OrderedDict(STATE)), old=old))
    tensors, _ = read_weights(path)
    assert tensors.keys() == STATE.keys()
    assert all(torch.equal(tensors[name], STATE[name]) and not tensors[name].requires_grad for name in STATE)


def test_prefix_of_some_names_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, path)
    assert set(read_weights(path)[0]) == {"module.a", "b"}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_mapped_tensors_are_private(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    save_file(STATE, path) if suffix == ".safetensors" else torch.save(STATE, path)
    content = path.read_bytes()
    tensors, _ = read_weights(path)
    tensors["c1.weight"].zero_()
    assert path.read_bytes() == content


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_read_tensors_are_copies(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    save_file(STATE, path) if suffix == ".safetensors" else torch.save(STATE, path)
    tensors, _ = read_weights(path, mmap=False)
    with path.open("r+b") as file:  # in place, which a mapping would show
        file.write(bytes(path.stat().st_size))
    assert all(torch.equal(tensors[name], STATE[name]) for name in STATE)


# What is no file of weights.


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"", r"\(0 bytes\) is empty; .* fetch or write it again"),
        ("a.pth", b"", r"\(0 bytes\) is empty"),
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"a pointer of Git LFS .*git lfs pull"),
        ("a.pth", b"<!DOCTYPE html><title>404</title>", "is a web page"),
        ("a.pth", b"hello", r"is no file of weights: it begins with b'hello'"),
        ("a", b"\0" * 50, "is no file of weights: it begins with"),
        ("a.pth", bytes(257) + b"ustar" + bytes(300), r"a tar file, which torch wrote before 0\.2"),
        ("a.safetensors", b"\xff" * 8 + b"{}", "is not a whole safetensors file: .*header"),
        ("a.safetensors", struct.pack("<Q", 10**6) + b"{}", "is not a whole safetensors file: .*header"),
        ("a.safetensors", struct.pack("<Q", 2) + b"[]", "is not a whole safetensors file: .*header"),
        ("a.safetensors", struct.pack("<Q", 9) + b"{" + b"\xff" * 8, "is not a whole safetensors file: .*UTF-8"),
        ("a.pth", b"PK\3\4" + bytes(40), "is not a whole file of torch.save: it does not end as an archive does"),
        ("a.pth", b"\x80\2.", "is not a whole file of torch.save"),
        ("a.pth", pickle.dumps({"a": 1}, 2), "is not a whole file of torch.save: Invalid magic number"),
    ],
)  # fmt: skip
def test_no_file_of_weights(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    refused(path, message)


def test_name_and_content_disagree(tmp_path: Path, valid: bytes) -> None:
    path = tmp_path / "a.safetensors"
    for old, kind in ((False, "zip"), (True, "pickle")):
        path.write_bytes(torch_bytes(STATE, old=old))
        refused(
            path, rf"is called \.safetensors, but is a {kind} file, as torch.save writes them; .* rename it to a\.pth"
        )
    for suffix in (".pth", ".pt", ".bin"):
        path = tmp_path / f"b{suffix}"
        path.write_bytes(valid)
        refused(path, rf"is called \{suffix}, but is a safetensors file; rename it to b\.safetensors")


def test_length_of_a_header_may_look_like_a_pickle(tmp_path: Path) -> None:
    """A safetensors file begins with its header's length: 0x280 bytes are how a pickle begins."""
    text = json.dumps({"__metadata__": {"pad": ""}}).encode()
    text += b" " * (0x280 - len(text))
    for name in ("a.safetensors", "a"):
        (tmp_path / name).write_bytes(safetensors_bytes(text, b""))
        assert read_weights(tmp_path / name) == ({}, {"pad": ""})


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.pth").mkdir()
    refused(tmp_path / "folder.pth", "is a folder; a file is expected there", read_weights)
    os.mkfifo(tmp_path / "pipe.pth")
    os.mkfifo(tmp_path / "config.json")
    refused(tmp_path / "config.json", "is a device or pipe; a file is expected there", read_json)
    refused(tmp_path / "nowhere.json", "there is no file", read_json)
    refused(tmp_path / "pipe.pth", "is a device or pipe; a file is expected there")
    (tmp_path / "link.pth").symlink_to(tmp_path / "nowhere")
    refused(tmp_path / "link.pth", r"there is no file .*link\.pth")
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    refused(
        tmp_path / "loop.pth", r"loop\.pth cannot be read: Too many levels of symbolic links; see to the permissions"
    )
    refused(tmp_path / "no" / "a.pth", r"there is no file .*a\.pth", read_weights)
    with pytest.raises(cnnzoo.CheckpointError, match="there is no file"):
        read_weights(tmp_path / "a\0.pth")
    refused(tmp_path / ("a" * 300 + ".pth"), "File name too long", read_weights)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_file_without_permission(tmp_path: Path, name: str, valid: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(valid)
    path.chmod(0)
    refused(path, "cannot be read: Permission denied; see to the permissions")


# Damaged safetensors files.


@pytest.mark.parametrize("share", [0.0001, 0.001, 0.002, 0.1, 0.5, 0.9, 0.99999])
def test_truncated_files(tmp_path: Path, valid: bytes, share: float) -> None:
    for name, content in (
        ("a.safetensors", valid),
        ("a.pth", torch_bytes(STATE)),
        ("o.pth", torch_bytes(STATE, old=True)),
    ):
        path = tmp_path / name
        path.write_bytes(content[: int(share * len(content))])
        refused(path, r"\(\d+ bytes\) is (not a whole (safetensors )?file|no file of weights)|holds more than tensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h["c1.bias"].update(data_offsets=[4, 28]), "is not a whole safetensors file: .*offset"),  # overlaps
        (lambda h: h["c1.bias"].update(data_offsets=[24, 0]), "is not a whole safetensors file"),
        (lambda h: h["c1.bias"].update(data_offsets=[-24, 0]), "is not a whole safetensors file: .*invalid value"),
        (lambda h: h["c1.bias"].update(data_offsets=[0, 2**64]), "is not a whole safetensors file"),
        (lambda h: h["output.weight"].update(data_offsets=[10**9, 10**9 + 3360]), "is not a whole safetensors file"),
        (lambda h: h["c1.bias"].update(shape=[7]), "is not a whole safetensors file"),
        (lambda h: h["c1.bias"].update(shape=[-6]), "is not a whole safetensors file: .*invalid value"),
        (lambda h: h["c1.bias"].update(shape=[2**62, 2**62]), "is not a whole safetensors file"),
        (lambda h: h["c1.bias"].update(dtype="F31"), "is not a whole safetensors file: .*unknown variant"),
        (lambda h: h["c1.bias"].pop("dtype"), "is not a whole safetensors file: .*missing field"),
        (lambda h: h.update(more={"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}), "is not a whole|does not fit"),
        (lambda h: h.update(__metadata__={"name": 5}), "is not a whole safetensors file: .*invalid type"),
        (lambda h: h.pop("c1.bias"), "is not a whole safetensors file"),
        (lambda h: h["c1.bias"].update(dtype="I32"), r"dtype of c1\.bias: torch\.int32 in the file"),
        (lambda h: h["f6.bias"].update(shape=[2, 42]), r"shape of f6\.bias: \(2, 42\) in the file, \(84,\) in the network"),
        (lambda h: h["f6.bias"].update(shape=[]) or h["f6.bias"].update(dtype="F64"), "is not a whole safetensors file"),
        (lambda h: h.update({"c9.bias": h.pop("c1.bias")}), r"missing: c1\.bias \(6,\); unexpected: c9\.bias \(6,\)"),
        (lambda h: h.update({"a\nb": h.pop("c1.bias")}), r"holds 'a\\nb', which is no tensor's name"),
    ],
)  # fmt: skip
def test_safetensors_header(tmp_path: Path, valid: bytes, change: Callable, message: str) -> None:
    header, data = taken_apart(valid)
    change(header)
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_bytes(header, data))
    refused(path, message)


# Files of torch.save that hold what they should not.


class Malicious:
    """Pickled as a call of a function, which an ordinary unpickler makes."""

    def __init__(self, call: Callable, *arguments: object) -> None:
        self.call = (call, arguments)

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".safetensors"])
@pytest.mark.parametrize(
    "wrap", [lambda code: code, lambda code: {**STATE, "code": code}, lambda code: {"state_dict": {"c1.bias": code}}]
)
@pytest.mark.parametrize(
    "how", [torch_bytes, lambda found: torch_bytes(found, old=True), lambda found: pickle.dumps(found, 2)]
)
def test_code_never_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, wrap: Callable, how: Callable
) -> None:
    marker = tmp_path / "ran"
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    for code in (
        Malicious(os.system, f"mkdir {marker}"),
        Malicious(eval, f"__import__('os').mkdir({str(marker)!r})"),
        Malicious(os.mkdir, str(marker)),
    ):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(how(wrap(code)))
        message = r"is called \.safetensors, but is a" if suffix == ".safetensors" else (
            r"holds more than tensors: it refers to '\S+', which was not run; ask for a safetensors file"
        )  # fmt: skip
        refused(path, message)
        assert not marker.exists()
        path.unlink()
    pickle.loads(pickle.dumps(code))
    assert marker.exists()  # and it would have run


def test_pickled_network(tmp_path: Path) -> None:
    torch.save(cnnzoo.create("lenet5", seed=0), tmp_path / "a.pth")
    refused(
        tmp_path / "a.pth",
        r"refers to 'cnnzoo\.models\.lenet\.LeNet5', which was not run; .* or write state_dict\(\) alone",
    )


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([torch.ones(1)], r"holds a list, not tensors by name; write state_dict\(\)"),
        (torch.ones(1), "holds a Tensor, not tensors by name"),
        ({"a": torch.ones(1), "epoch": 3}, "holds an int under 'epoch', where only tensors are expected"),
        ({"a": {"b": 1}}, "holds a dict under 'a', where only tensors are expected"),
        ({"state_dict": {"a": None}}, "holds a NoneType under 'a'"),
        ({5: torch.ones(1)}, "holds 5, which is no tensor's name"),
        ({"a\x1b[2J": torch.ones(1)}, r"holds 'a\\x1b\[2J', which is no tensor's name"),
        ({"a": torch.eye(2).to_sparse()}, "holds a tensor 'a' that is sparse, quantised or without its numbers"),
        ({"a": torch.empty(2, device="meta")}, "holds a tensor 'a' that is sparse, quantised or without its numbers"),
        ({"a": torch.zeros(1).expand(10**9)}, "holds a tensor 'a' that is sparse, quantised or without its numbers"),
        ({"c1.bias": torch.ones(6)}, r"does not fit LeNet5 in \d+ of \d+ tensors: missing: c1\.weight"),
        ({}, "does not fit LeNet5 in 10 of 10 tensors"),
        ({**STATE, "c1.bias": torch.ones(6, dtype=torch.int64)}, r"dtype of c1\.bias: torch\.int64 in the file"),
        ({**STATE, "c1.bias": torch.ones(7)}, r"shape of c1\.bias: \(7,\) in the file, \(6,\) in the network"),
        ({**STATE, "c1.weight": torch.ones(6, 0, 5, 5)}, r"shape of c1\.weight: \(6, 0, 5, 5\) in the file"),
        ({**STATE, "c1.weight": torch.ones(())}, r"shape of c1\.weight: \(\) in the file"),
        ({**STATE, "output.weight": torch.ones(())}, r"shape of output\.weight: \(\) in the file"),
        ({**STATE, "c9.bias": torch.ones(7)}, r"unexpected: c9\.bias \(7,\)"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
@pytest.mark.parametrize("old", [False, True])
def test_torch_file_that_holds_something_else(tmp_path: Path, found: object, message: str, old: bool) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(torch_bytes(found, old=old))
    refused(path, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: parts, "is a compressed archive, which torch.save does not write; .* unpack it"),
        (lambda parts: {"notes/a.txt": b"hello"}, "is an archive, but not one of torch.save; .* unpack it"),
        (lambda parts: parts | {"archive/constants.pkl": b""}, r"is a TorchScript program, which is not run; write its state_dict\(\)"),
        (lambda parts: {name: part for name, part in parts.items() if not name.endswith("data/0")}, "is not a whole file of torch.save"),
    ],
)  # fmt: skip
def test_archives(tmp_path: Path, change: Callable, message: str) -> None:
    with zipfile.ZipFile(io.BytesIO(torch_bytes(STATE))) as archive:
        parts = {one.filename: archive.read(one) for one in archive.infolist()}
    changed = change(parts)
    compression = zipfile.ZIP_DEFLATED if changed is parts else zipfile.ZIP_STORED
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, part in changed.items():
            archive.writestr(name, part)
    refused(path, message)


@pytest.mark.parametrize("old", [False, True])
def test_pickle_that_overflows_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    """A tuple in a tuple, a million times, as a key: torch.load alone would end the process."""
    nested = pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + 590_000 * pickle.TUPLE1 + pickle.NONE + pickle.SETITEM
    many = pickle.EMPTY_DICT + 100 * (pickle.BININT1 + b"\1" + pickle.NONE + pickle.SETITEM)
    refused(write_pickle(tmp_path, nested, old=old), "holds a tuple, which is no tensor's name")
    refused(write_pickle(tmp_path, many, old=old), "holds 1, which is no tensor's name")
    monkeypatch.setattr("cnnzoo.checkpoints.pickles.MOST_STEPS", 100)
    refused(write_pickle(tmp_path, many, old=old), r"its pickle has more than 100 instructions")
    monkeypatch.setattr("cnnzoo.checkpoints.torch_files.LARGEST_PICKLE", 100)
    refused(write_pickle(tmp_path, many, old=old), r"its pickle has (more than 100 (bytes|instructions)|no end)")


def write_pickle(folder: Path, opcodes: bytes, *, old: bool) -> Path:
    """A file of torch.save with these opcodes in place of an empty dictionary."""
    content, opcodes = torch_bytes({}, old=old), pickle.PROTO + b"\2" + opcodes + pickle.STOP
    path = folder / "a.pth"
    path.unlink(missing_ok=True)
    if old:
        place = content.rindex(pickle.PROTO + b"\2" + pickle.EMPTY_DICT)
        path.write_bytes(content[:place] + opcodes + pickle.dumps([], 2))
        return path
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(path, "w") as after:
        for one in before.infolist():
            after.writestr(one.filename, opcodes if one.filename.endswith("data.pkl") else before.read(one))
    return path


def test_archive_without_checksums(tmp_path: Path) -> None:
    """torch.save can be told to leave them out; torch.load never looks at them."""
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_weights(tmp_path / "a.pth")[0].keys() == STATE.keys()


# Numbers that are none.


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64])
def test_numbers_that_are_not_finite(number: float, dtype: torch.dtype) -> None:
    tensors = {f"a{i}": torch.ones(3, 5, dtype=dtype) for i in range(12)}
    check_finite(tensors, "a.pth")
    tensors["a7"][2, 4] = number
    message = r"a\.pth holds NaN or infinity in 1 of 12 tensors: a7; it is damaged, or its training diverged: fetch it"
    with pytest.raises(cnnzoo.CheckpointError, match=message):
        check_finite(tensors, "a.pth")
    for tensor in tensors.values():
        tensor[0] = number
    with pytest.raises(cnnzoo.CheckpointError, match=r"in 12 of 12 tensors: a0, a1, a10, a11, a2, a3, a4, a5, \.\.\.;"):
        check_finite(tensors, "a.pth")


@pytest.mark.parametrize("name", ["ä.safetensors", "ä.pth"])
def test_file_with_numbers_that_are_not_finite(tmp_path: Path, name: str) -> None:
    state = {key: tensor.clone() for key, tensor in STATE.items()}
    state["c5.weight"][-1, -1, -1, -1] = float("nan")
    save_file(state, tmp_path / name) if name.endswith(".safetensors") else torch.save(state, tmp_path / name)
    refused(tmp_path / name, r"holds NaN or infinity in 1 of 10 tensors: c5\.weight; it is damaged")


def test_numbers_that_are_finite() -> None:
    extreme = torch.tensor([torch.finfo(torch.float32).max, torch.finfo(torch.float32).min])
    check_finite({"a": extreme, "b": torch.ones(2, dtype=torch.long), "c": torch.ones(0), "d": torch.ones(())}, "a.pth")
    with pytest.raises(cnnzoo.CheckpointError, match="NaN or infinity in 1 of 1 tensors: e"):
        check_finite({"e": torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn)}, "a.pth")


# What a file or folder says of itself.


def test_config_that_cannot_be(tmp_path: Path, valid: bytes) -> None:
    header, data = taken_apart(valid)
    cases = [
        (
            "lenet7",
            "{}",
            r"a\.safetensors: unknown network 'lenet7': did you mean 'lenet5'\?.* from another version of cnnzoo",
        ),
        ("lenet5", '{"a": 1}', r"a\.safetensors: lenet5: unknown option 'a'.* from another version of cnnzoo"),
        ("../../etc/passwd", "{}", "unknown network '../../etc/passwd'"),
        ("lenet5\x1b[2J", "{}", r"unknown network 'lenet5\\x1b\[2J'"),
        ("lenet5", "{", "options that are not a table: a str and a NoneType"),
        ("lenet5", "9" * 5000, "options that are not a table: a str and a NoneType"),
        ("lenet5", "[" * 100_000, "options that are not a table: a str and a NoneType"),
        (
            "lenet5",
            '{"codes": ' + "[" * 500 + "]" * 500 + "}",
            "holds options of 'lenet5' that nest deeper than arguments do",
        ),
        ("lenet5", "[1]", r"options that are not a table: a str and a list; it is damaged"),
        ("lenet5", "null", "options that are not a table: a str and a NoneType"),
        ("lenet5" * 1000, "{}", r"unknown network '(lenet5)+le': "),
        (
            "lenet5",
            json.dumps({"a" * 10_000: 1}),
            r"a\.safetensors: lenet5: unknown option 'a+\.\.\. The file is damaged",
        ),
    ]
    for name, options, message in cases:
        path = tmp_path / "a.safetensors"
        path.unlink(missing_ok=True)
        path.write_bytes(safetensors_bytes(header | {"__metadata__": {"name": name, "options": options}}, data))
        refused(path, message, describe)
        refused(path, message, cnnzoo.load_pretrained)
        refused(path, message)


@pytest.mark.parametrize(
    "options",
    [
        {"pool": "median"},
        {"num_classes": "ten"},
        {"num_classes": -1},
        {"num_classes": 2**70},
        {"num_classes": 1.5},
        {"num_classes": 12},
        {"in_channels": 0},
        {"in_channels": 3},
        {"in_channels": 10**9},
        {"classic": True},
        {"classic": [[]]},
        {"classic": True, "codes": [["a"]]},
        {"classic": True, "codes": [[1.0] * 84] * 9},
        {"connections": [[99]] * 16},
        {"connections": 5},
        {"activation": {"a": 1}},
    ],
    ids=str,
)
def test_arguments_that_cannot_be(tmp_path: Path, valid: bytes, options: dict) -> None:
    """What a constructor makes of a file's arguments, and what they make of the file's tensors."""
    header, data = taken_apart(valid)
    header["__metadata__"] = {"name": "lenet5", "options": json.dumps(options)}
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_bytes(header, data))
    message = "states arguments that no network can be built with: .*; it is damaged|does not fit LeNet5"
    refused(path, message, cnnzoo.load_pretrained)
    refused(path, "|".join([message, "was made with"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", r"config\.json is not a table in JSON: Expecting value"),
        (b"{", r"config\.json is not a table in JSON: Expecting property name"),
        (b"\xff\xfe\xfd", r"config\.json is not a table in JSON: .*codec can't decode"),
        (b"[" * 100_000, r"config\.json is not a table in JSON: .*recursion"),
        (b"[1]", r"config\.json is not a table in JSON: it holds a list"),
        (b" " * (16 * 2**20 + 1), r"config\.json is not a table in JSON: more than 16777216 bytes"),
        (b'{"architectures": ["ResNetForImageClassification"]}', r"does not say what network it holds; name it"),
        (b'{"name": "lenet5", "options": 3}', r"config\.json holds .* options that are not a table: a str and an int"),
        (b'{"name": ["lenet5"], "options": {}}', r"config\.json holds a name that is no text.*: a list and a dict; it is damaged"),
        (b'{"name": "resnet1000", "options": {}, "library_version": "99.0"}', r"unknown network 'resnet1000': .* another version of cnnzoo, '99\.0', where this is \d"),
        (b'{"name": "lenet5", "options": {"depth": 3}}', r"lenet5: unknown option 'depth'"),
    ],
)  # fmt: skip
def test_folder_with_a_bad_config(tmp_path: Path, valid: bytes, text: bytes, message: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(valid)
    (tmp_path / "config.json").write_bytes(text)
    for call in (describe, cnnzoo.load_pretrained) if text[:16] != b'{"architectures"' else (cnnzoo.load_pretrained,):
        with pytest.raises(cnnzoo.CheckpointError, match=message):
            call(tmp_path)


def test_folder_says_what_it_holds(tmp_path: Path, valid: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(valid)
    assert describe(tmp_path).name == "lenet5"  # by the header
    (tmp_path / "config.json").write_text('{"name": "lenet5", "options": {"pool": "avg"}, "library_version": "0.1"}')
    assert (describe(tmp_path).name, describe(tmp_path).options) == ("lenet5", {"pool": "avg"})
    assert read_json(tmp_path / "config.json")["library_version"] == "0.1"


def test_torch_file_does_not_say_what_it_holds(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a.pth")
    refused(
        tmp_path / "a.pth",
        r"does not say what network it holds; name it: load_pretrained\(name, checkpoint=",
        cnnzoo.load_pretrained,
    )


# Folders that somebody else has filled.


def test_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(cnnzoo.CheckpointError, match=r"there is no folder .*nowhere"):
        weights_in(tmp_path / "nowhere")
    message = r"there is no model\.safetensors in .*; a folder of weights holds model\.safetensors and config\.json, as save_pretrained writes them; is it the right folder\?"
    with pytest.raises(cnnzoo.CheckpointError, match=message):
        weights_in(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(cnnzoo.CheckpointError, match=r"name the file itself: checkpoint='.*pytorch_model\.bin'"):
        weights_in(tmp_path)
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(cnnzoo.CheckpointError, match=r"there is no model\.safetensors in"):
        weights_in(tmp_path)


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "/etc/hostname", "..", ".", "", "link/secret"])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").touch()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(
        cnnzoo.CheckpointError, match=r"leads out of .*folder, to .*; a folder of weights holds its files itself"
    ):
        inside(folder, name)


def test_links_that_lead_out(tmp_path: Path, valid: bytes) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "model.safetensors").write_bytes(valid)
    (elsewhere / "config.json").write_text('{"name": "lenet5", "options": {}}')
    for name in ("model.safetensors", "config.json"):
        (folder / name).symlink_to(elsewhere / name)
        with pytest.raises(
            cnnzoo.CheckpointError, match=rf"'{name}' leads out of .*folder, to .*elsewhere.*copy the file there"
        ):
            cnnzoo.load_pretrained(folder)
        (folder / name).unlink()
        (folder / name).write_bytes((elsewhere / name).read_bytes())
    assert isinstance(cnnzoo.load_pretrained(folder), cnnzoo.LeNet5)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(cnnzoo.CheckpointError, match=r"model\.safetensors cannot be read: "):
        weights_in(folder)


def test_links_that_stay_inside(tmp_path: Path, valid: bytes) -> None:
    (tmp_path / "epoch9.safetensors").write_bytes(valid)
    (tmp_path / "model.safetensors").symlink_to("epoch9.safetensors")
    assert weights_in(tmp_path) == tmp_path / "model.safetensors"
    (tmp_path / "by").symlink_to(tmp_path)
    assert weights_in(tmp_path / "by") == tmp_path / "by" / "model.safetensors"


def test_snapshot_of_the_hub(tmp_path: Path, valid: bytes) -> None:
    """The hub client's cache keeps files in `blobs` and links to them; those links alone may leave a snapshot."""
    repository = tmp_path / "models--a--b"
    snapshot = repository / "snapshots" / "0123"
    for folder in (snapshot, repository / "blobs", tmp_path / "blobs"):
        folder.mkdir(parents=True)
    (repository / "blobs" / "77").write_bytes(valid)
    (repository / "blobs" / "78").write_text('{"name": "lenet5", "options": {}}')
    (snapshot / "model.safetensors").symlink_to("../../blobs/77")
    (snapshot / "config.json").symlink_to("../../blobs/78")
    assert isinstance(cnnzoo.load_pretrained(snapshot), cnnzoo.LeNet5)
    (snapshot / "model.safetensors").unlink()
    (tmp_path / "blobs" / "77").write_bytes(valid)
    (snapshot / "model.safetensors").symlink_to("../../../blobs/77")
    with pytest.raises(cnnzoo.CheckpointError, match="leads out of"):
        cnnzoo.load_pretrained(snapshot)


# Whatever is wrong is found before the network is touched.


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("output.bias"),
        lambda state: state.update(more=torch.ones(1)),
        lambda state: state.update({"c1.weight": torch.zeros(6, 1, 3, 3)}),
        lambda state: state.update({"c1.weight": torch.zeros(6, 1, 5, 5, dtype=torch.long)}),
    ],
)
def test_network_is_as_it_was(change: Callable) -> None:
    model = cnnzoo.create("lenet5", seed=1)
    before = {name: (tensor, tensor.clone()) for name, tensor in model.state_dict(keep_vars=True).items()}
    state = dict(STATE)
    change(state)
    with pytest.raises(cnnzoo.CheckpointError, match="does not fit LeNet5"):
        assign(model, state, Path("a.safetensors"))
    after = model.state_dict(keep_vars=True)
    assert all(after[name] is tensor and torch.equal(tensor, copy) for name, (tensor, copy) in before.items())


# Ten thousand files that chance has damaged.

VALUES = [None, True, -1, 0, 3, 7, 10**9, 2**70, 1.5, "", "x", "F64", [], {}, [[1]], [10, 84], "{}", '{"pool": "max"}']
DTYPES = ["F32", "F64", "I32", "BF16", "U8", "BOOL", "F8_E4M3", "C64", "F4"]
OPTIONS = ["classic", "num_classes", "in_channels", "activation", "pool", "connections", "codes", "depth"]


def structure(content: bytes, tensors: dict[str, Tensor]) -> list[int]:
    """Where a file has something other than weights, which may be any number."""
    free = bytearray(b"\1" * len(content))
    for tensor in tensors.values():
        raw = tensor.numpy().tobytes()
        start = content.index(raw)
        free[start : start + len(raw)] = bytes(len(raw))
    return [place for place, flag in enumerate(free) if flag]


def damaged(content: bytes, places: list[int], chance: random.Random) -> bytes:
    """A file with some bytes changed, left out, put in or copied over others, or its end missing."""
    changed = bytearray(content)
    how = chance.choice(["flip", "flip", "byte", "byte", "cut", "insert", "copy", "truncate"])
    for _ in range(chance.choice([1, 1, 1, 2, 4, 8])):
        place, size = chance.choice(places), chance.choice([1, 2, 4, 8, 64])
        if place >= len(changed):
            continue
        if how == "flip":
            changed[place] ^= 1 << chance.randrange(8)
        elif how == "byte":
            changed[place] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, *b'"09.{}[],', *pickle.MARK, *pickle.REDUCE])
        elif how == "cut":
            del changed[place : place + size]
        elif how == "insert":
            changed[place:place] = chance.randbytes(size)
        elif how == "copy":
            source = chance.choice(places)
            changed[place : place + size] = changed[source : source + size]
        else:
            del changed[chance.choice([place, chance.randrange(len(changed))]) :]
            break
    return bytes(changed)


def edited(content: bytes, chance: random.Random) -> bytes:
    """A safetensors file whose header is JSON, but says something else."""
    header, data = taken_apart(content)
    for _ in range(chance.choice([1, 1, 2, 3])):
        tensors = [name for name in header if name != "__metadata__"]
        name, value = chance.choice(tensors), chance.choice(VALUES)
        entry, said = header[name], header.setdefault("__metadata__", {})
        how = chance.randrange(9)
        if how == 0 and isinstance(entry, dict):
            entry["dtype"] = chance.choice([*DTYPES, value])
        elif how == 1 and isinstance(entry, dict):
            shape = entry.get("shape") if isinstance(entry.get("shape"), list) else []
            entry["shape"] = chance.choice([shape[::-1], [*shape, 1], shape[:-1], [0, *shape], [*shape, value], value])
        elif how == 2 and isinstance(entry, dict):
            entry["data_offsets"] = [chance.choice([0, 4, 24, -4, 2**32, 2**64, value]) for _ in range(2)]
        elif how == 3:
            header[chance.choice([f"module.{name}", "", "a\0b", "c1", name * 99, "c1.bias"])] = header.pop(name)
        elif how == 4:
            header[chance.choice(tensors)] = chance.choice([entry, value])
        elif how == 5 and isinstance(said, dict):
            said["name"] = chance.choice(["lenet7", "captcha_cnn_small", "", "../lenet5", "LENET5", value])
        elif how == 6 and isinstance(said, dict):
            said["options"] = chance.choice(["{", "[]", "null", "[" * 2000, json.dumps(value), value])
        elif how == 7 and isinstance(said, dict):
            options = {chance.choice(OPTIONS): chance.choice(VALUES) for _ in range(chance.choice([1, 1, 2, 3]))}
            said["options"] = json.dumps(options)
        else:
            header["__metadata__"] = value
    return safetensors_bytes(header, data)


def repickled(content: bytes, chance: random.Random) -> bytes:
    """A sound archive of torch.save whose pickle is damaged."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(changed, "w") as new:
        for one in old.infolist():
            part = old.read(one)
            new.writestr(
                one.filename, damaged(part, range(len(part)), chance) if one.filename.endswith(".pkl") else part
            )
    return changed.getvalue()


def mutations(kind: str, content: bytes, count: int) -> Iterator[bytes]:
    places = structure(content, STATE)
    for number in range(count):
        chance = random.Random(f"{kind} {number}")
        if kind == "header":
            yield edited(content, chance)
        elif kind == "pickle":
            yield repickled(content, chance)
        else:
            yield damaged(content, places, chance)


@pytest.mark.parametrize("count", [100, pytest.param(4000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["safetensors", "header", "zip", "pickle", "old"])
def test_files_damaged_by_chance(tmp_path: Path, valid: bytes, kind: str, count: int) -> None:
    """Each gives a network or a CheckpointError; the slow run goes through 20,000 files."""
    content = valid if kind in ("safetensors", "header") else torch_bytes(STATE, old=kind == "old")
    calls = [lambda path: cnnzoo.load_pretrained("lenet5", checkpoint=path)]
    if content is valid:
        calls.append(cnnzoo.load_pretrained)
    loaded = failed = 0
    for number, mutation in enumerate(mutations(kind, content, count)):
        path = tmp_path / f"{number}{'.safetensors' if content is valid else '.pth'}"  # never one that may be mapped
        path.write_bytes(mutation)
        for call in calls:
            started = time.perf_counter()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", cnnzoo.FreshLayerWarning)
                    model = call(path)
                assert isinstance(model, torch.nn.Module)
                assert all(tensor.clone().shape == tensor.shape for tensor in model.state_dict().values())
                said = path.name
                loaded += 1
            except cnnzoo.CheckpointError as error:
                said = str(error)
                failed += 1
            except BaseException as error:
                error.add_note(f"{kind} {number}")
                raise
            assert path.name in said
            assert said.isprintable()
            assert time.perf_counter() - started < 5, f"{kind} {number} took too long"
        assert list(tmp_path.iterdir()) == [path]
        path.unlink()
    assert failed > count / 4
    assert loaded > 0
