"""What a network computes: every operation on its input, in order, with its settings and where its inputs come from.

The network's own `forward` runs on the meta device under a mode that sees each call of torch, so a functional change
counts as much as a changed layer. Operations that move no value (flatten, view, an adaptive pooling that has nothing
to pool) are left out, and equal computations are written equally: a mean over a map is a global average.
"""

import copy
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cnnzoo.support.torch_private import tree_leaves
from cnnzoo.verification.operations import CONSTANT, DESCRIBED, HAVE_STATES, LAST, MOVES_NOTHING, Call, Facts, by

INPUT = -1
"""The network's input, where an operation says what it takes."""


@dataclass(frozen=True)
class Operation:
    """One operation that a network does.

    Attributes:
        layer: the innermost module that called it, as in `named_modules()`.
        kind: `"conv"`, `"linear"`, `"max"`, `"average"`, `"relu"`, `"cat"`, ...
        facts: its settings by name, such as `{"kernel": "3x3", "stride": "1"}`.
        takes: for each of its inputs the operation that gives it, as an index into the list; `INPUT` is the image.
        shape: of its output, without the batch.
    """

    layer: str
    kind: str
    facts: Facts
    takes: tuple[int, ...]
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Computation:
    """The operations of a network in a canonical order, and the error that ended them early, if one did."""

    operations: tuple[Operation, ...]
    error: str = ""
    stopped_in: str = ""


def blank(model: nn.Module) -> tuple[nn.Module, dict[int, Tensor]]:
    """A copy of a network without a number in it, in evaluation mode, and what its constants are, by id."""
    constants = {id(b): b for b in model.buffers() if not b.is_meta}
    blanks: dict[int, Any] = {id(t): _on_meta(t) for t in (*model.parameters(), *model.buffers())}
    outline = copy.deepcopy(model, dict(blanks)).eval()
    return outline, {id(blanks[key]): value for key, value in constants.items()}


def computed(outline: nn.Module, constants: dict[int, Tensor], input_shape: Sequence[int]) -> Computation:
    """Follow the `forward` of a blank network, without computing a value."""
    recorder = _Recorder(constants)
    dtype = next((p.dtype for p in outline.parameters() if p.is_floating_point()), torch.get_default_dtype())
    error = ""
    handles = list(recorder.watch(outline))
    try:
        image = torch.empty(1, *input_shape, dtype=dtype, device="meta")
        recorder.begin(image)
        with torch.no_grad(), torch.device("meta"), recorder:
            out = outline(image)
        ends = [recorder.at[id(leaf)] for leaf in tree_leaves(out) if id(leaf) in recorder.at][:1]
    except Exception as failure:  # whatever somebody else's network raises is what is wrong with it
        error = str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
        ends = [len(recorder.operations) - 1]
    finally:
        for handle in handles:
            handle.remove()
    return Computation(ordered(recorder.operations, ends), error, recorder.deepest if error else "")


def _on_meta(tensor: Tensor) -> Tensor:
    new = tensor.detach().to("meta") if not tensor.is_meta else torch.empty_like(tensor)
    return nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new


def ordered(operations: Sequence[Operation], ends: Sequence[int]) -> tuple[Operation, ...]:
    """The operations that the ends depend on, each after its inputs; the longer path into a sum goes first.

    So the order does not depend on which branch a `forward` happens to run first.
    """
    depth = [0] * len(operations)
    for i, operation in enumerate(operations):
        depth[i] = 1 + max((depth[j] for j in operation.takes if j >= 0), default=0)
    order: list[int] = []
    done: set[int] = set()
    stack = [(end, False) for end in reversed(ends) if end >= 0]
    inputs: dict[int, tuple[int, ...]] = {}
    while stack:
        i, ready = stack.pop()
        if ready:
            order.append(i)
            continue
        if i in done:
            continue
        done.add(i)
        takes = operations[i].takes
        if operations[i].kind in ("add", "multiply"):
            takes = tuple(sorted(takes, key=lambda j: -depth[j] if j >= 0 else 0))
        inputs[i] = takes
        stack.append((i, True))
        stack += [(j, False) for j in reversed(takes) if j >= 0 and j not in done]
    position = {i: place for place, i in enumerate(order)} | {INPUT: INPUT}
    return tuple(replace(operations[i], takes=tuple(position[j] for j in inputs[i])) for i in order)


class _Recorder(TorchFunctionMode):
    """Notes each call of torch that has to do with the image."""

    def __init__(self, constants: dict[int, Tensor]) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.at: dict[int, int] = {}  # the operation that made a tensor, by the tensor's id
        self.kept: list[Tensor] = []  # what lives keeps its id
        self.constants = constants
        self.stack: list[str] = []
        self.modules: list[nn.Module] = []
        self.deepest = ""

    def begin(self, image: Tensor) -> None:
        self.at[id(image)] = INPUT
        self.kept.append(image)

    def watch(self, model: nn.Module) -> Iterator[Any]:
        """Know which module runs."""
        thread = threading.get_ident()
        for name, module in model.named_modules():

            def enter(module: nn.Module, args: Any, name: str = name) -> None:
                if threading.get_ident() == thread:
                    self.stack.append(name)
                    self.modules.append(module)

            def leave(module: nn.Module, args: Any, output: Any) -> None:
                if threading.get_ident() == thread:
                    self.stack.pop()
                    self.modules.pop()

            yield module.register_forward_pre_hook(enter)
            yield module.register_forward_hook(leave)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.deepest = self.stack[-1] if self.stack else ""
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        live = [tensor for tensor in tensors if id(tensor) in self.at]
        before = [tensor.shape for tensor in live[:1]]
        out = func(*args, **kwargs)
        if live and getattr(func, "__name__", "") not in CONSTANT:
            self._note(func, args, kwargs, live, before[0], out)
        return out

    def _note(self, func, args, kwargs, live, shape, out) -> None:
        results = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if not results:
            return
        name = getattr(func, "__name__", "")
        takes = tuple(self.at[id(tensor)] for tensor in live)
        results, states = (results[:1], results[1:]) if name in HAVE_STATES else (results, [])
        if len(results) > 1:
            takes = (self._add("split", {"parts": len(results), "by": name}, takes, ()),)
            for part, result in enumerate(results):
                self._give(result, self._add("part", {"index": part}, takes, tuple(result.shape[1:])))
            return
        (result,) = results
        after = tuple(result.shape[1:])
        if name in MOVES_NOTHING:
            self._give(result, takes[0])
            return
        module = self.modules[-1] if self.modules else None
        call = Call(func, args, kwargs, module, self.at, self.constants, tuple(shape), tuple(result.shape))
        describe = DESCRIBED.get(name)
        for kind, facts, *others in call.unknown() if describe is None else describe(call, *args, **kwargs):
            own = tuple(takes[0] if i == LAST else i for i in others[0]) if others else takes
            takes = (self._add(kind, facts, own, after),)
        self._give(result, takes[0])
        for index, state in enumerate(states):
            self._give(state, self._add("state", {"index": index}, takes, tuple(state.shape)))

    def _add(self, kind: str, facts: Facts, takes: tuple[int, ...], shape: tuple[int, ...]) -> int:
        layer = self.stack[-1] if self.stack else ""
        self.operations.append(Operation(layer, kind, facts, takes, shape))
        return len(self.operations) - 1

    def _give(self, tensor: Tensor, operation: int) -> None:
        self.at[id(tensor)] = operation
        self.kept.append(tensor)


def linear_as(operation: Operation, before: tuple[int, ...]) -> Operation:
    """A convolution whose kernel covers the whole map is a linear layer."""
    facts = operation.facts
    whole = facts["kernel"] == by(before[1:]) and facts["pad"] == "0" and facts["groups"] == 1
    if not whole or math.prod(operation.shape[1:]) != 1:
        return operation
    return replace(operation, kind="linear", facts={"units": facts["maps"], "bias": facts["bias"]})
