"""Read what `torch.save` pickles, without unpickling: nothing is imported, called or made but plain containers.

A pickle is a program for a small stack machine. This machine knows the instructions that pickle's protocols 2 to 5
write, and carries out those that build numbers, texts and containers. Where the program calls a function, only torch's
own functions for tensors have a meaning, and their result is a `TensorPlan`: where the numbers lie in the file. Every
other call or object becomes a `Reference`, a name that stands where the object would be.

What a hostile pickle can cost is bounded by its size. An instruction takes constant time, apart from the bytes that it
brings along; nothing is copied twice; only texts are hashed; and `MOST_STEPS` bounds the instructions.
"""

import pickle
import struct
from collections.abc import Callable
from mmap import mmap
from typing import Any, NamedTuple

import torch

MOST_STEPS = 600_000
"""Instructions of a pickle; a tensor takes 34."""

LONGEST_NAME = 500
"""Characters in the name of a module, a function or a class."""

MOST_AXES = 64
"""Of a tensor; torch allows no more."""


class Reference(NamedTuple):
    """An object, function or class that a pickle refers to by name; it was neither imported nor called."""

    name: str


class Storage(NamedTuple):
    """A block of numbers in a file.

    Attributes:
        key: the block's name.
        dtype: of the numbers; None where each tensor states its own.
        length: how many numbers there are, or bytes where `dtype` is None.
        start: where they begin in the block, counted alike; only before torch 0.4 other than 0.
    """

    key: str
    dtype: torch.dtype | None
    length: int
    start: int = 0

    @property
    def width(self) -> int:
        """The bytes of one of what is counted."""
        return 1 if self.dtype is None else self.dtype.itemsize


class TensorPlan(NamedTuple):
    """A tensor as a pickle describes it: how its numbers lie in a storage, all of them inside."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """The bytes that its numbers take."""
        return _product(self.size) * self.dtype.itemsize


class Table(dict[str, Any]):
    """A dictionary, as far as its keys are texts.

    Attributes:
        strange: the first key that is no text; its entry, and all others of this kind, are left out.
    """

    __slots__ = ("strange",)

    def __init__(self) -> None:
        self.strange: Any = None

    def insert(self, key: Any, value: Any) -> None:
        """Add an entry, if its key is a text."""
        if type(key) is str:
            self[key] = value
        elif self.strange is None:
            self.strange = key if isinstance(key, int | float) else Reference(type(key).__name__)


class Pickle(NamedTuple):
    """What a pickle describes.

    Attributes:
        value: the object.
        end: where the pickle ends.
        widths: of each storage that it names, by key, the bytes of a number.
        called: the first function that it calls which has no meaning here; `""` if there is none.
    """

    value: Any
    end: int
    widths: dict[str, int]
    called: str


def read_pickle(buffer: mmap | bytes, at: int, end: int) -> Pickle:
    """What a pickle describes.

    Args:
        buffer: the file.
        at: where the pickle begins.
        end: where it must have ended.

    Raises:
        ValueError: the pickle is damaged, has instructions that `torch.save` does not write, or too many.
    """
    machine = _Machine()
    started = at
    try:
        while True:
            if at >= end:
                raise ValueError("its pickle has no end")
            code = buffer[at]
            at += 1
            argument: Any = None
            if (fixed := FIXED.get(code)) is not None:
                (argument,) = fixed.unpack_from(buffer, at)
                at += fixed.size
            elif (counted := COUNTED.get(code)) is not None:
                (length,) = counted.unpack_from(buffer, at)
                at += counted.size
                if length > end - at:
                    raise ValueError("its pickle has no end")
                argument = buffer[at : at + length]
                at += length
            elif code == GLOBAL:
                argument, at = _lines(buffer, at)
            if code == STOP:
                return Pickle(machine.take(), at, machine.widths, machine.called)
            machine.step(code, argument)
    except Exception as error:
        if type(error) is ValueError:
            raise
        # An empty stack, an unknown memo, bytes that are no text, arguments of the wrong kind.
        raise ValueError(f"its pickle is damaged near byte {at - started}") from None


def _lines(buffer: mmap | bytes, at: int) -> tuple[tuple[str, str], int]:
    """Two short lines: a module and a name in it."""
    middle = buffer.find(b"\n", at, at + LONGEST_NAME)
    end = buffer.find(b"\n", middle + 1, middle + 1 + LONGEST_NAME)
    if min(middle, end) < 0:
        raise ValueError("its pickle refers to something without an end to its name")
    return (buffer[at:middle].decode(), buffer[middle + 1 : end].decode()), end + 1


Instruction = Callable[["_Machine", Any], None]

INSTRUCTIONS: dict[int, Instruction] = {}
"""What is carried out: all that protocols 2 to 5 write, but for registered extensions and buffers kept elsewhere."""


def _instruction(names: str) -> Callable[[Instruction], Instruction]:
    """Make a method carry out instructions, which are called as in the module `pickle`."""

    def add(method: Instruction) -> Instruction:
        INSTRUCTIONS.update({getattr(pickle, name)[0]: method for name in names.split()})
        return method

    return add


class _Machine:
    """The stack, the marks in it, and the memo; each method carries out instructions with an argument, or None."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []
        self.steps = MOST_STEPS
        self.widths: dict[str, int] = {}
        self.called = ""

    def step(self, code: int, argument: Any) -> None:
        """Carry out one instruction."""
        self.spend(1)
        method = INSTRUCTIONS.get(code)
        if method is None:
            raise ValueError(f"its pickle has the instruction {code:#04x}, which torch.save does not write")
        method(self, argument)

    def spend(self, steps: int) -> None:
        """Count steps, of which there is a limited number."""
        self.steps -= steps
        if self.steps < 0:
            raise ValueError(f"its pickle has more than {MOST_STEPS} instructions")

    def take(self) -> Any:
        """Take the top off the stack."""
        if self.marks and self.marks[-1] == len(self.stack):
            raise ValueError("its pickle takes more from its stack than is there")
        return self.stack.pop()

    def take_to_mark(self) -> list[Any]:
        """Take off the stack what was put there since the last mark."""
        first = self.marks.pop()
        taken = self.stack[first:]
        del self.stack[first:]
        return taken

    @_instruction("PROTO FRAME")
    def skip(self, _: Any) -> None:
        """State a version or a length, which need not be known."""

    @_instruction("MARK")
    def mark(self, _: Any) -> None:
        """Mark the top of the stack."""
        self.marks.append(len(self.stack))

    @_instruction("POP")
    def pop(self, _: Any) -> None:
        """Forget the top of the stack."""
        self.take()

    @_instruction("POP_MARK ADDITEMS")
    def pop_mark(self, _: Any) -> None:
        """Forget all since the last mark; a set is a `Reference`, and its content of no interest."""
        self.take_to_mark()

    @_instruction("DUP")
    def duplicate(self, _: Any) -> None:
        """Put the top on the stack again."""
        self.stack.append(self.stack[-1])

    @_instruction("BINGET LONG_BINGET")
    def get(self, index: int) -> None:
        """Put something remembered on the stack."""
        self.stack.append(self.memo[index])

    @_instruction("BINPUT LONG_BINPUT")
    def put(self, index: int) -> None:
        """Remember the top of the stack."""
        if index >= MOST_STEPS:
            raise ValueError(f"its pickle remembers more than {MOST_STEPS} things")
        self.memo.extend([None] * (index + 1 - len(self.memo)))
        self.memo[index] = self.stack[-1]

    @_instruction("MEMOIZE")
    def memoize(self, _: Any) -> None:
        """Remember the top of the stack under the next number."""
        self.memo.append(self.stack[-1])

    @_instruction("BININT BININT1 BININT2 BINFLOAT SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8")
    def constant(self, value: Any) -> None:
        """Put a number, or bytes, on the stack."""
        self.stack.append(value)

    @_instruction("LONG1 LONG4")
    def integer(self, content: bytes) -> None:
        """Put an integer of any length on the stack, within reason."""
        value = int.from_bytes(content, "little", signed=True) if len(content) < 256 else Reference("builtins.int")
        self.stack.append(value)

    @_instruction("BINUNICODE SHORT_BINUNICODE BINUNICODE8")
    def text(self, content: bytes) -> None:
        """Put a text on the stack."""
        self.stack.append(content.decode("utf-8", "surrogatepass"))

    @_instruction("BINSTRING SHORT_BINSTRING")
    def old_text(self, content: bytes) -> None:
        """Put a text of Python 2, which has no encoding, on the stack."""
        self.stack.append(content.decode("utf-8" if content.isascii() else "latin-1"))

    @_instruction("NONE")
    def none(self, _: Any) -> None:
        """Put None on the stack."""
        self.stack.append(None)

    @_instruction("NEWTRUE")
    def true(self, _: Any) -> None:
        """Put True on the stack."""
        self.stack.append(True)

    @_instruction("NEWFALSE")
    def false(self, _: Any) -> None:
        """Put False on the stack."""
        self.stack.append(False)

    @_instruction("EMPTY_TUPLE")
    def no_tuple(self, _: Any) -> None:
        """Put an empty tuple on the stack."""
        self.stack.append(())

    @_instruction("TUPLE1")
    def one(self, _: Any) -> None:
        """Make a tuple of the top of the stack."""
        self.stack.append((self.take(),))

    @_instruction("TUPLE2")
    def two(self, _: Any) -> None:
        """Make a tuple of the two things on top of the stack."""
        second, first = self.take(), self.take()
        self.stack.append((first, second))

    @_instruction("TUPLE3")
    def three(self, _: Any) -> None:
        """Make a tuple of the three things on top of the stack."""
        third, second, first = self.take(), self.take(), self.take()
        self.stack.append((first, second, third))

    @_instruction("TUPLE")
    def tuple_of_all(self, _: Any) -> None:
        """Make a tuple of all since the last mark."""
        self.stack.append(tuple(self.take_to_mark()))

    @_instruction("EMPTY_LIST")
    def no_list(self, _: Any) -> None:
        """Put an empty list on the stack."""
        self.stack.append([])

    @_instruction("APPEND")
    def append(self, _: Any) -> None:
        """Append the top of the stack to the list below."""
        value = self.take()
        if isinstance(self.stack[-1], list):
            self.stack[-1].append(value)

    @_instruction("APPENDS")
    def appends(self, _: Any) -> None:
        """Append all since the last mark to the list below."""
        values = self.take_to_mark()
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)

    @_instruction("EMPTY_DICT")
    def no_table(self, _: Any) -> None:
        """Put an empty dictionary on the stack."""
        self.stack.append(Table())

    @_instruction("SETITEM")
    def set_item(self, _: Any) -> None:
        """Put a key and a value into the dictionary below."""
        value, key = self.take(), self.take()
        if isinstance(self.stack[-1], Table):
            self.stack[-1].insert(key, value)

    @_instruction("SETITEMS")
    def set_items(self, _: Any) -> None:
        """Put keys and values, all since the last mark, into the dictionary below."""
        pairs = self.take_to_mark()
        if len(pairs) % 2:
            raise ValueError("its pickle has a key without a value")
        if isinstance(self.stack[-1], Table):
            for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                self.stack[-1].insert(key, value)

    @_instruction("EMPTY_SET")
    def no_set(self, _: Any) -> None:
        """Put what stands for a set on the stack."""
        self.stack.append(Reference("builtins.set"))

    @_instruction("FROZENSET")
    def frozen_set(self, _: Any) -> None:
        """Put what stands for a set in the place of its elements, all since the last mark."""
        self.take_to_mark()
        self.stack.append(Reference("builtins.frozenset"))

    @_instruction("GLOBAL")
    def refer(self, names: tuple[str, str]) -> None:
        """Refer to something by a module and a name in it, which takes twice the time of most instructions."""
        self.spend(1)
        self.stack.append(Reference(".".join(names)))

    @_instruction("STACK_GLOBAL")
    def refer_from_stack(self, _: Any) -> None:
        """Refer to something by the module and name on top of the stack."""
        name, module = self.take(), self.take()
        if not (type(module) is type(name) is str and max(len(module), len(name)) <= LONGEST_NAME):
            raise ValueError("its pickle refers to something by what is no name")
        self.stack.append(Reference(f"{module}.{name}"))

    @_instruction("REDUCE NEWOBJ")
    def call(self, _: Any) -> None:
        """Call a function, or make an object of a class; that is, know its name, or torch's plan of a tensor."""
        arguments, function = self.take(), self.take()
        name = function.name if isinstance(function, Reference) else "an object"
        if name in ("collections.OrderedDict", "builtins.dict", "__builtin__.dict"):
            self.stack.append(self.table(*arguments))
        elif name in BUILDERS:
            self.stack.append(BUILDERS[name](*arguments))
        else:
            self.called = self.called or name
            self.stack.append(Reference(name))

    @_instruction("NEWOBJ_EX")
    def call_with_names(self, _: Any) -> None:
        """Call a function that also takes arguments by name, as none of torch's is called."""
        self.take()
        self.call(None)

    def table(self, pairs: Any = ()) -> Table:
        """Make a dictionary; Python 2 gives it the entries at once."""
        self.spend(len(pairs))
        table = Table()
        for key, value in pairs:
            table.insert(key, value)
        return table

    @_instruction("BUILD")
    def build(self, _: Any) -> None:
        """Give an object its attributes, which nobody asks for: those of a state dict count its versions."""
        self.take()
        if not isinstance(self.stack[-1], (Table, Reference)):
            raise ValueError("its pickle gives attributes to something that has none")

    @_instruction("BINPERSID")
    def storage(self, _: Any) -> None:
        """Name a block of numbers."""
        named = _storage(self.take())
        if isinstance(named, Storage):
            self.widths.setdefault(named.key, named.width)
        self.stack.append(named)


DTYPES = {
    name: getattr(torch, name)
    for name in (
        *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz"),
        *("float8_e5m2fnuz", "float8_e8m0fnu", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16"),
        *("uint8", "bool", "complex128", "complex64"),
    )
    if hasattr(torch, name)
}
"""Those that torch can compute with, or convert at least."""

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
}


def _storage(identity: Any) -> Storage | Reference:
    """What torch writes instead of a storage's numbers: its type, key, device, length and, once, a view."""
    if not (type(identity) is tuple and len(identity) in (5, 6) and identity[0] == "storage"):
        return Reference("a persistent object")  # the source text of a class, before 1.6
    (_, kind, key, _, count), view = identity[:5], identity[5:]
    if not (isinstance(kind, Reference) and type(key) is str and type(count) is int and count >= 0):
        raise ValueError("its pickle describes a storage wrongly")
    dtype = STORAGES.get(kind.name.rpartition(".")[2])
    if dtype is None and not kind.name.endswith("UntypedStorage"):
        return Reference(kind.name)
    if not view or view[0] is None:
        return Storage(key, dtype, count)
    _, start, length = view[0]
    if not (dtype is not None and type(start) is type(length) is int and 0 <= start <= start + length <= count):
        raise ValueError("its pickle describes a storage wrongly")
    return Storage(key, dtype, length, start)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> TensorPlan | Reference:
    """`torch._utils._rebuild_tensor_v2`; after the gradient's flag and hooks come the bits for conjugates and signs."""
    bits = more[2] if len(more) > 2 else None
    if isinstance(bits, Table) and any(bits.get(one) for one in ("conj", "neg")):
        return UNUSUAL
    return _plan(storage, storage.dtype, offset, size, stride) if isinstance(storage, Storage) else UNUSUAL


def _tensor_of_dtype(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> TensorPlan | Reference:
    """`torch._utils._rebuild_tensor_v3`, of tensors whose storage has no type of its own."""
    known = DTYPES.get(dtype.name.removeprefix("torch.")) if isinstance(dtype, Reference) else None
    if known is None or not isinstance(storage, Storage):
        return UNUSUAL
    return _plan(storage, known, offset, size, stride)


def _plan(storage: Storage, dtype: torch.dtype | None, offset: Any, size: Any, stride: Any) -> TensorPlan | Reference:
    if dtype is None:
        return UNUSUAL
    if not (type(offset) is int and type(size) is type(stride) is tuple and len(size) == len(stride) <= MOST_AXES):
        raise ValueError("its pickle describes a tensor wrongly")
    if any(type(one) is not int or not 0 <= one < 2**62 for one in (offset, *size, *stride)):
        raise ValueError("its pickle describes a tensor wrongly")
    if _product(max(1, one) for one in size) >= 2**62:
        raise ValueError("its pickle describes a tensor of more numbers than there can be")
    available = storage.length // (1 if storage.dtype is not None else dtype.itemsize)
    numbers = _product(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if numbers and last >= available:
        raise ValueError("its pickle describes a tensor that leads out of its storage")
    if numbers > available:  # a step of 0 makes gigabytes out of four bytes
        return UNUSUAL
    return TensorPlan(storage, offset if numbers else 0, size, stride, dtype)


def _product(factors: Any) -> int:
    product = 1
    for one in factors:
        product *= one
    return product


def _same(tensor: Any, *_: Any) -> Any:
    """A parameter is its tensor."""
    return tensor if isinstance(tensor, TensorPlan) else UNUSUAL


def _subclass(function: Any, kind: Any, arguments: Any, _state: Any) -> Any:
    """`torch._tensor._rebuild_from_type_v2`: a tensor with attributes, or of a class of its own."""
    plain = {"torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"}
    if not (isinstance(kind, Reference) and kind.name in plain and isinstance(function, Reference)):
        return kind if isinstance(kind, Reference) else UNUSUAL
    build = BUILDERS.get(function.name)
    return build(*arguments) if build is not None and build in (_tensor, _tensor_of_dtype, _same) else UNUSUAL


UNUSUAL = Reference("torch._utils._rebuild_tensor")
"""A tensor that is sparse, quantised or on no device, or that repeats its numbers."""

BUILDERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _same,
    "torch._utils._rebuild_parameter_with_state": _same,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "torch.Size": lambda size=(): size,
    "collections.defaultdict": lambda *_: Table(),
}
"""What calls in a pickle mean."""


def _arguments(forms: dict[str, str]) -> dict[int, struct.Struct]:
    return {getattr(pickle, name)[0]: struct.Struct(form) for form, names in forms.items() for name in names.split()}


FIXED = _arguments(
    {
        "<B": "PROTO BININT1 BINGET BINPUT",
        "<H": "BININT2",
        "<i": "BININT",
        "<I": "LONG_BINGET LONG_BINPUT",
        "<Q": "FRAME",
        ">d": "BINFLOAT",
    }
)
"""Instructions with a number."""

COUNTED = _arguments(
    {
        "<B": "LONG1 SHORT_BINUNICODE SHORT_BINSTRING SHORT_BINBYTES",
        "<I": "LONG4 BINUNICODE BINSTRING BINBYTES",
        "<Q": "BINUNICODE8 BINBYTES8 BYTEARRAY8",
    }
)
"""Instructions with bytes and, before these, their number."""

GLOBAL, STOP = pickle.GLOBAL[0], pickle.STOP[0]
