"""The benchmarks: their arithmetic, what they do when something is in the way, and their pages; no timing is judged."""

import contextlib
import dataclasses
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
import torch
from click.testing import CliRunner, Result

import cnnzoo
from benchmarks.__main__ import main
from benchmarks.environment import Environment
from benchmarks.harness import RESULTS, Bench, Samples, Target, require_same, seconds_per_call, take_turns
from benchmarks.peers import same_network
from benchmarks.report.command import PAGES, ROOT, made, write
from benchmarks.report.machines import machines
from benchmarks.report.markdown import filled, table
from benchmarks.report.page import PUBLISHED
from benchmarks.report.tables import targets
from benchmarks.steps import Forward, TrainingStep
from benchmarks.throughput import matmul, networks
from benchmarks.throughput.batches import Search, out_of_memory
from benchmarks.throughput.data_parallel import counts
from benchmarks.throughput.execution import PREPARE, Job, Prepared, Recorded
from benchmarks.throughput.networks import DifferentNetwork, Networks, precision
from benchmarks.throughput.plan import EXECUTIONS, OURS, Candidate, Choice, Workload, plan
from benchmarks.throughput.results import Journal, Matmul, Measurement, Run, files, keys, read
from benchmarks.throughput.stopping import Stopped, stoppable

TINY = ("--repeats", "2", "--min-time", "0", "--against", "")


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine does at best is of no interest here."""
    monkeypatch.setitem(matmul.SIDE, "cpu", 16)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def measurements(path: Path) -> list[Measurement]:
    return read([path]).measurements


# The harness


def test_samples() -> None:
    samples = Samples((4.0, 1.0, 2.0, 3.0, 5.0))
    assert (samples.median, samples.quartiles) == (3.0, (2.0, 4.0))
    assert samples.over(Samples((2.0,) * 5)).values == (2.0, 0.5, 1.0, 1.5, 2.5)
    assert Samples((1.23456, 1.23456)).median == 1.235


def test_calls_double_until_they_fill_the_time() -> None:
    counted = []

    def timed(call: Callable[[], object], calls: int) -> float:
        counted.append(calls)
        return 0.01 * calls

    assert seconds_per_call(lambda: None, 0.1, timed) == pytest.approx(0.01)
    assert counted == [1, 2, 4, 8]
    counted.clear()
    seconds_per_call(lambda: None, 0.0, timed)
    assert counted == [1]


def test_candidates_take_turns_and_their_warm_up_is_thrown_away() -> None:
    order: list[str] = []
    numbers = itertools.count()

    def measure(name: str) -> float:
        order.append(name)
        return next(numbers)

    taken = take_turns({name: partial(measure, name) for name in "abc"}, 2)
    assert "".join(order) == "abc" + "abc" + "bca"
    assert {name: samples.values for name, samples in taken.items()} == {"a": (3, 8), "b": (4, 6), "c": (5, 7)}


def test_a_comparison_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(1))
    one = Bench("sleep", "cuda", repeats=2, min_time=0).compare(
        "a while", "sleep", {"sleep": partial(time.sleep, 0.001)}
    )
    assert all(value >= 0.001 for value in one.samples["sleep"].values)
    assert len(waited) == 2 * 3  # before and after each sample, the warm-up's too


def test_target() -> None:
    assert Target("speed", 2.0, at_least=1).met
    assert not Target("speed", 2.0, at_most=1).met
    assert str(Target("speed", 2.0, at_most=1, unit=" ms")) == "MISSED  speed: 2 ms (at most 1 ms)"


def test_a_package_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str):
        raise ModuleNotFoundError(f"No module named {name!r}", name="torchinfo")

    monkeypatch.setattr("benchmarks.__main__.import_module", without)
    result = run("--help")
    assert result.exit_code == 0
    assert 'needs torchinfo: pip install -e ".[bench]"' in result.output
    result = run("shapes", "--no-save", "--repeats", "2")
    assert result.exit_code == 1
    assert result.output == 'Error: shapes needs torchinfo: pip install -e ".[bench]"\n'


def test_candidates_that_compute_something_else_are_not_compared() -> None:
    require_same({"a": torch.ones(3), "b": torch.ones(3) + 1e-7}, 1e-6)
    with pytest.raises(click.ClickException, match=r"b computes something else than a: the scores differ by 1\.0e\+00"):
        require_same({"a": torch.ones(3), "b": torch.zeros(3)}, 1e-6)
    with pytest.raises(click.ClickException, match="the outputs differ by nan"):
        require_same({"a": torch.ones(3), "b": torch.full((3,), torch.nan)}, 1e-6, "outputs")


def test_the_file_of_results_keeps_its_format(tmp_path: Path) -> None:
    """Recorded results are read by later versions, and written as earlier ones did."""
    lines = [json.loads(line) for line in (RESULTS / "throughput-cpu.jsonl").read_text("utf-8").splitlines()]
    again = tmp_path / "again.jsonl"
    found = read(files())
    Journal(again).write([*found.runs.values(), *found.matmuls, *found.measurements])
    written = [json.loads(line) for line in again.read_text("utf-8").splitlines()]
    assert {kind: [one for one in written if one["kind"] == kind] for kind in ("run", "limit", "case")} == {
        kind: [one for one in lines if one["kind"] == kind] for kind in ("run", "limit", "case")
    }


def test_the_runner_takes_the_flags_of_a_gpu(tmp_path: Path) -> None:
    """Half precision, TensorFloat-32, a memory format, a graph that only CUDA has, and a budget, on the CPU."""
    out = tmp_path / "out.jsonl"
    options = ("--models", "tutorial_lenet5_linear", "--dtype", "bf16,tf32", "--batch", "2", "--compile", "tutorial*")
    result = run(
        "throughput", *TINY, *options, "--algorithms", "3", "--budget", "300", "--backend", "eager", "--out", out,
        "--execution", "eager,channels_last,cudagraphs,optimized",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = {(one.mode, one.dtype, one.execution): one.status for one in measurements(out)}
    for setting in (("infer", "bf16"), ("train", "bf16"), ("infer", "tf32"), ("train", "tf32")):
        assert found[*setting, "eager"] == found[*setting, "channels_last"] == "measured"
    assert set(found.values()) == {"measured"}
    assert ("infer", "bf16", "optimized") in found
    assert not any(execution == "cudagraphs" for _, _, execution in found)


def test_only_public_names_of_cnnzoo_are_used_but_for_some() -> None:
    """`training`, `play` and `load` measure what stands behind a public name; nothing else does."""
    inside = {
        f"{path.stem}: {name}"
        for path in sorted([*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "docs").rglob("*.py")])
        for name in re.findall(r"^ *(?:from|import) (cnnzoo\.[\w.]+)", path.read_text("utf-8"), re.MULTILINE)
        if name.removeprefix("cnnzoo.") not in ("nn", "models", "initialization", "data", "training", "shapes")
    }
    assert {one.partition(":")[0] for one in inside} <= {
        *("training", "load", "play", "reproductions", "zoos"),  # benchmarks
        "networks",  # pages of the site
    }, inside


def test_steps_take_one_batch_after_the_other() -> None:
    model = cnnzoo.create("lenet5", seed=0)
    seen: list[float] = []
    model.c1.register_forward_pre_hook(lambda module, args: seen.append(float(args[0].mean())))
    batches = [(torch.full((2, 1, 28, 28), float(value)), torch.tensor([0, 1])) for value in (1, 2)]
    forward = Forward(model, batches)
    for _ in range(3):
        forward()
    assert seen == [1, 2, 1]
    assert not model.training
    before = model.c1.weight.detach().clone()
    TrainingStep(model, batches)()
    assert model.training
    assert not torch.equal(model.c1.weight, before)


# What is measured


def planned(**changes) -> list[Workload]:
    defaults = {
        "device": "cuda",
        "names": cnnzoo.list_models(),
        "modes": ("infer", "train"),
        "dtypes": ("bf16", "tf32"),
        "against": ("torchvision", "timm"),
    }
    return plan(Choice(**defaults | changes))


def test_every_network_comes_first_once() -> None:
    groups = planned()
    everything = {(name, False) for name in cnnzoo.list_models()}
    everything |= {(name, True) for name in cnnzoo.list_models(classic=True)}
    first = groups[: len(everything)]
    assert {(group.network, group.classic) for group in first} == everything
    assert {(group.mode, group.dtype) for group in first} == {("infer", "bf16")}
    assert not any(EXECUTIONS[one.execution].slow for group in first for one in group.candidates)
    assert first[0].network == "resnet50"
    settings = list(dict.fromkeys((group.dtype, group.mode) for group in groups))
    assert settings == [("bf16", "infer"), ("bf16", "train"), ("tf32", "infer"), ("tf32", "train")]
    patient = [group for group in groups if any(EXECUTIONS[one.execution].slow for one in group.candidates)]
    assert groups[len(first) : len(first) + len(patient)] == patient
    assert len(groups) == len(set(groups))


def test_peers_are_run_in_the_same_executions() -> None:
    by_name = {group.network: group for group in planned(modes=("infer",), dtypes=("bf16",))[:70] if not group.classic}
    both = {"eager", "channels_last"}
    assert {one.execution for one in by_name["resnet34"].candidates if one.library == "timm"} == both
    assert {one.execution for one in by_name["resnet34"].candidates if one.library == OURS} == both | {"cudagraphs"}
    assert {one.library for one in by_name["alexnet"].candidates} == {OURS, "torchvision"}
    assert {one.library for one in by_name["inception_v4"].candidates} == {OURS, "timm"}
    assert {one.library for group in planned() if group.classic for one in group.candidates} == {OURS}


def test_the_best_of_both_take_turns() -> None:
    groups = [group for group in planned() if Candidate(OURS, "optimized") in group.candidates]
    assert Candidate("torchvision", "autotuned") in next(g for g in groups if g.network == "vgg16").candidates
    assert all(Candidate(OURS, "eager") in group.candidates for group in groups)


def test_what_is_asked_for_is_planned() -> None:
    assert {one.execution for group in planned(device="cpu", dtypes=("fp32",)) for one in group.candidates} == {
        "eager",
        "channels_last",
        "optimized",
    }
    compiled = {"names": ["lenet5", "resnet18"], "executions": ("compiled",), "modes": ("infer",), "dtypes": ("bf16",)}
    for patterns, expected in (
        (None, [("lenet5", False), ("resnet18", False)]),
        (("lenet5-classic",), [("lenet5", True)]),
        (("*",), [("lenet5", False), ("lenet5", True), ("resnet18", False)]),
    ):
        assert [(group.network, group.classic) for group in planned(**compiled, slow=patterns)] == expected
    groups = planned(names=["lenet5", "convnet"], executions=("compiled",), slow=("conv*",), modes=("infer",), batch=8)
    assert [(group.network, group.candidates, group.batch) for group in groups] == [
        ("convnet", (Candidate(OURS, "compiled"),), 8)
    ]


# Batches


def searched(rate: Callable[[int], float], **changes) -> int:
    return Search(**{"start": 4, "cap": 256, "gain": 0.1, "longest": 1.0} | changes).run(rate)


def saturating(batch: int) -> float:
    """A device that needs 1 s for every call and 1/32 s for every image."""
    return batch / (1 + batch / 32)


def full_above(limit: int) -> Callable[[int], float]:
    def rate(batch: int) -> float:
        if batch > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return float(batch)

    return rate


def test_batch_doubles_while_it_pays() -> None:
    assert searched(saturating, longest=100, cap=10**6) == 256  # the next doubling gains 6 %
    assert searched(saturating, longest=100, cap=64) == 64
    assert searched(lambda batch: 100.0) == 4


def test_one_slow_sample_does_not_end_the_search() -> None:
    rates = {4: 4.0, 8: 3.0, 16: 16.0, 32: 16.0, 64: 16.0}
    assert searched(rates.__getitem__, longest=100) == 16


def test_batch_stops_where_a_call_takes_too_long() -> None:
    assert searched(lambda batch: 16.0 + batch / 1000, gain=0, longest=0.9) == 16  # that takes a second


def test_batch_stops_where_memory_ends() -> None:
    assert searched(full_above(40), longest=100) == 32
    assert searched(full_above(1)) == 1  # from the start downwards
    with pytest.raises(torch.OutOfMemoryError):
        searched(full_above(0))


def test_other_errors_end_the_search() -> None:
    def broken(batch: int) -> float:
        if batch > 4:
            raise RuntimeError("no kernel")
        return 100.0

    with pytest.raises(RuntimeError, match="no kernel"):
        searched(broken)


def test_out_of_memory_is_recognised() -> None:
    assert out_of_memory(torch.OutOfMemoryError())
    assert out_of_memory(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"))
    assert out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


# Running


def test_resumes(tmp_path: Path) -> None:
    out = tmp_path / "results" / "throughput-cpu.jsonl"
    options = (*TINY, "--models", "lenet5", "--mode", "infer", "--execution", "eager,channels_last", "--out", out)
    assert run("throughput", *options).exit_code == 0
    found = measurements(out)
    assert [(one.classic, one.execution) for one in found] == list(
        itertools.product((False, True), ("eager", "channels_last"))
    )
    assert all(one.status == "measured" and len(one.rates) == 2 and min(one.rates) > 0 for one in found)
    assert {one.macs for one in found if not one.classic} == {cnnzoo.summary(cnnzoo.create("lenet5")).macs}
    assert all(one.asked is None and one.batch in (1, 2, 4, 8, 16, 32) for one in found)
    assert len(read([out]).matmuls) == 1
    before = out.read_bytes()
    assert "nothing left to measure" in run("throughput", *options).output
    assert out.read_bytes() == before
    more = run("throughput", *options, "--models", "lenet5,tutorial_lenet5_linear")
    assert "1/1  tutorial_lenet5_linear" in more.output
    assert out.read_bytes().startswith(before)
    assert run("throughput", *options, "--no-resume").exit_code == 0
    assert len(measurements(out)) == len(found) + 2 + len(found)
    again = [one.batch for one in measurements(out)[-len(found) :]]
    assert again == [one.batch for one in found]  # what was searched for once stands


def test_train_and_peers(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    options = ("--models", "resnet18", "--mode", "train", "--batch", "2", "--repeats", "2", "--min-time", "0")
    result = run("throughput", *options, "--against", "torchvision", "--out", out)
    assert result.exit_code == 0, result.output
    ours, theirs = measurements(out)
    assert (ours.library, theirs.library, ours.group, ours.asked) == (OURS, "torchvision", theirs.group, 2)
    assert f"torchvision eager {theirs.samples.over(ours.samples).median:.2f} x" in result.output
    (machine,) = machines(read([out]))
    assert machine.settings["train", "fp32"][0].share > 0


def test_no_save_only_prints(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    result = run(
        "throughput", *TINY, "--models", "lenet5", "--execution", "eager", "--batch", "1", "--no-save", "--out", out
    )
    assert "lenet5 (classic), train, fp32: batch 1, eager" in result.output
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--models", "alexnets"), "no network matches 'alexnets'"),
        (("--execution", "eager,fast"), "unknown fast; it takes eager, channels_last"),
        (("--dtype", "fp8"), "unknown fp8; it takes fp32, tf32, bf16, fp16"),
        (("--backend", "torch"), "'torch' is not one of 'auto', 'eager', 'cudagraphs'"),
        (("--batch", "0"), "got '0'; it takes 'auto' or a number of images"),
        (("--devices", "2"), "--devices 2 takes as many processes, and torchrun started none"),
    ],
)
def test_bad_options(options: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    result = run("throughput", "--no-save", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def replaced(monkeypatch: pytest.MonkeyPatch, execution: str, before: Callable[[Job], None]) -> None:
    """Do something before an execution prepares a candidate."""
    prepare = PREPARE[execution]

    def changed(job: Job) -> Prepared:
        before(job)
        return prepare(job)

    monkeypatch.setitem(PREPARE, execution, changed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_what_is_measured(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.jsonl"
    options = (*TINY, "--models", "lenet5", "--mode", "infer", "--execution", "eager,channels_last", "--out", out)
    prepared: list[Job] = []

    def signalled(job: Job) -> None:
        prepared.append(job)
        if len(prepared) == 2:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        replaced(patch, "channels_last", signalled)
        result = run("throughput", *options)
    assert result.exit_code == 128 + number
    assert f"stopped: {signal.Signals(number).name}; the same command resumes here" in result.output
    assert signal.getsignal(number) is handler
    first = measurements(out)
    assert [(one.classic, one.execution, one.status) for one in first] == [
        (False, "eager", "measured"),
        (False, "channels_last", "measured"),
    ]
    assert "1/1  lenet5 (classic)" in run("throughput", *options).output
    assert measurements(out)[:2] == first
    assert len(measurements(out)) == 4


def test_the_budget_ends_the_run(tmp_path: Path) -> None:
    result = run("throughput", *TINY, "--models", "resnet152", "--out", tmp_path / "out.jsonl", "--budget", "0.2")
    assert "stopped: the 0.2 seconds are over; the same command resumes here" in result.output
    assert result.exit_code == 0


def test_a_signal_in_vain_is_noticed_later() -> None:
    with stoppable() as stop:
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped):
            stop.check()


def test_budget_is_not_taken_for_a_failure() -> None:
    with stoppable(0.01), pytest.raises(Stopped), contextlib.suppress(Exception):
        time.sleep(10)


def test_what_does_not_fit_gets_smaller_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.jsonl"
    options = (*TINY, "--models", "convnet", "--mode", "infer", "--execution", "eager,channels_last", "--out", out)

    def full(limit: int, job: Job) -> None:
        if len(job.batches["contiguous"][0][0]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nMore.")

    with monkeypatch.context() as patch:
        replaced(patch, "channels_last", partial(full, 2))
        result = run("throughput", *options, "--batch", "8")
    assert result.exit_code == 0, result.output
    assert [(one.execution, one.status, one.batch) for one in measurements(out)] == [
        *(("eager", "out of memory", 8), ("channels_last", "out of memory", 8)),
        *(("eager", "out of memory", 4), ("channels_last", "out of memory", 4)),
        *(("eager", "measured", 2), ("channels_last", "measured", 2)),
    ]
    assert measurements(out)[0].error == "OutOfMemoryError: CUDA out of memory. Tried to allocate 9 GiB."
    assert "nothing left" in run("throughput", *options, "--batch", "8").output
    with monkeypatch.context() as patch:
        replaced(patch, "eager", partial(full, 0))
        run("throughput", *options)
    assert [(one.status, one.batch) for one in measurements(out)[6:]] == [("out of memory", 1)] * 2
    assert "nothing left" in run("throughput", *options).output


def test_a_way_that_fails_is_recorded_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.jsonl"

    def broken(job: Job) -> None:
        raise RuntimeError("\nno kernel for this\nat line 1")

    replaced(monkeypatch, "channels_last", broken)
    options = (*TINY, "--models", "convnet", "--mode", "infer", "--execution", "eager,channels_last", "--batch", "1")
    assert run("throughput", *options, "--out", out).exit_code == 0
    found = {one.execution: one for one in measurements(out)}
    assert (found["channels_last"].status, found["channels_last"].error) == (
        "failed",
        "RuntimeError: no kernel for this",
    )
    assert found["eager"].status == "measured"
    assert "nothing left" in run("throughput", *options, "--out", out).output


def test_a_lost_device_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.jsonl"

    def lost(job: Job) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    replaced(monkeypatch, "eager", lost)
    options = ("--models", "convnet,lenet5", "--mode", "infer", "--execution", "eager", "--batch", "1", "--out", out)
    result = run("throughput", *TINY, *options)
    assert result.exit_code == 1
    assert "Error: lenet5, infer, fp32: AcceleratorError: CUDA error: an illegal memory access" in result.output
    assert [(one.network, one.status) for one in measurements(out)] == [("lenet5", "failed")]


def test_a_peer_that_computes_something_else_is_no_peer(monkeypatch: pytest.MonkeyPatch) -> None:

    def other(library: str, ours: torch.nn.Module) -> torch.nn.Module:
        theirs = same_network(library, ours)
        torch.nn.init.zeros_(theirs.fc.weight)
        return theirs

    group = Workload("resnet18", False, "infer", "fp32", ())
    assert Networks(group, "cpu").copy("torchvision").fc.weight.any()
    monkeypatch.setattr(networks, "same_network", other)
    with pytest.raises(DifferentNetwork, match="torchvision's scores differ from ours by"):
        Networks(group, "cpu").copy("torchvision")


def test_precision_is_restored() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    for dtype in ("tf32", "fp32"):
        with precision(dtype):
            assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == (dtype == "tf32")
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


@pytest.mark.cuda
def test_a_captured_training_step_trains() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(8, 1, 28, 28, generator=generator).cuda(), torch.randint(10, (8,), generator=generator).cuda())
        for _ in range(3)
    ]
    eager, captured = (cnnzoo.create("lenet5", device="cuda", seed=0) for _ in range(2))
    steps = TrainingStep(eager, batches), TrainingStep(captured, batches)
    for step in steps:
        step.optimizer.param_groups[0]["lr"] = 0.1
    replay = Recorded(steps[1], batches)
    eager.load_state_dict(captured.state_dict())  # the warm-up has trained, too
    for _ in range(5):
        steps[0]()
        replay()
    for ours, theirs in zip(eager.parameters(), captured.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.cuda
def test_cuda(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    executions = "eager,channels_last,cudagraphs"
    result = run(
        "throughput", "--device", "cuda", *TINY, "--models", "lenet5,resnet18", "--execution", executions, "--out", out
    )
    assert result.exit_code == 0, result.output
    assert {one.status for one in measurements(out)} == {"measured"}
    assert all(one.peak_bytes for one in measurements(out))


# Several devices


def test_counts() -> None:
    assert [counts(size) for size in (1, 2, 3, 8)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8]]


def test_two_processes(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    options = ("--devices", "2", "--models", "tutorial_lenet5_linear", "--batch", "2", "--out", str(out), *TINY)
    command = [*launch, "-m", "benchmarks", "throughput", *options]
    finished = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert finished.returncode == 0, finished.stderr
    found = {(one.mode, one.devices): one for one in measurements(out)}
    assert set(found) == {("infer", 1), ("infer", 2), ("train", 1), ("train", 2)}
    assert all(len(one.rates) == 2 and min(one.rates) > 0 for one in found.values())
    assert {one.batch for one in found.values()} == {2}
    assert len(read([out]).runs) == 1
    (machine,) = machines(read([out]))
    assert [case.devices for case, alone in machine.side_by_side() if alone.devices == 1] == [2, 2]


# The file


def environment(**changes) -> Environment:
    stated = {
        "date": "2026-11-21T12:00:00+00:00",
        "python": "3.12.3",
        "versions": {"cnnzoo": "0.1.0", "torch": "2.11.0"},
        "threads": 2,
        "cpu": "A processor",
        "gpu": "A GPU",
        "platform": "Linux x86_64",
    }
    return Environment(**stated | changes)


def case(network: str, library: str, execution: str, *rates: float, start: str = "one", **changes) -> Measurement:
    """Measured in group 1; one of resnet50's multiply-adds is one of the 1000 that matrices reach each second."""
    stated = {"group": 1, "classic": False, "mode": "infer", "dtype": "bf16", "batch": 64, "status": "measured"}
    return Measurement(
        start, network=network, library=library, execution=execution, rates=rates, macs=1, **stated | changes
    )


def measured(folder: Path, *found: Measurement, device: str = "cuda", start: str = "one", **where) -> Path:
    """A file of results in a folder."""
    path = folder / f"throughput-{device}.jsonl"
    Journal(path).write([Run(start, device, environment(**where)), Matmul(start, "bf16", 1000.0, 1980), *found])
    return path


def test_journal_passes_over_what_a_killed_program_left(tmp_path: Path) -> None:
    path = measured(tmp_path, case("resnet50", OURS, "eager", 100.0, 101.0))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind": "case", "run": "one", "netw')
    assert read([path]).measurements == [case("resnet50", OURS, "eager", 100.0, 101.0)]
    Journal(path).write([case("vgg16", OURS, "eager", 5.0)])
    assert [one.network for one in read([path]).measurements] == ["resnet50", "vgg16"]


def test_results_of_another_place_do_not_count(tmp_path: Path) -> None:
    group = Workload("resnet50", False, "infer", "bf16", (Candidate(OURS, "eager"),))
    path = measured(tmp_path, case("resnet50", OURS, "eager", 100.0))
    results = read([path])
    here = results.runs["one"]
    assert results.finished(here.place) == set(keys(group))
    assert results.batches(here.place) == {("resnet50", False, "infer", "bf16"): 64}
    for changes in ({"gpu": "Another GPU"}, {"versions": {"cnnzoo": "0.1.0", "torch": "2.12.0"}}):
        elsewhere = Run("two", "cuda", environment(**changes))
        assert results.finished(elsewhere.place) == set()
        assert results.batches(elsewhere.place) == {}
    assert results.finished(Run("two", "cuda", environment(threads=9, cpu="Another")).place) == set(keys(group))


# The pages


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Made-up results of one GPU."""
    folder = tmp_path / "results"
    measured(
        folder,
        case("resnet50", OURS, "eager", 90.0, 100.0, 110.0, 100.0, 100.0, peak_bytes=3 << 30),
        case("resnet50", "torchvision", "eager", 100.0, 100.0, 100.0, 125.0, 125.0),
        case("resnet50", OURS, "optimized", 300.0, 300.0, group=2, detail="inductor"),
        case("resnet50", "torchvision", "autotuned", 150.0, 200.0, group=2),
        case("resnet50", "torchvision", "eager", 100.0, 100.0, group=2),
        case("vgg16", OURS, "eager", 40.0, 40.0, group=3),
        case("vgg16", "timm", "eager", 20.0, 20.0, group=3),
        case("vgg16", OURS, "compiled", group=4, status="failed", error="InductorError: a | `kernel`"),
        case("lenet5", OURS, "cudagraphs", 3751200.0, 3751200.0, group=5, mode="train"),
        case("lenet5", OURS, "data parallel", 100.0, 100.0, group=6, mode="train"),
        case("lenet5", OURS, "data parallel", 180.0, 180.0, group=6, mode="train", devices=2),
        case("lenet5", OURS, "eager", 70.0, 70.0, group=7, classic=True),
    )
    line = {"name": "load", "case": "vgg16, ready", "candidate": "torchvision", "median": 1.5, "quartiles": [1.4, 1.6]}
    line |= {"reference": "cnnzoo", "ratio": 150.0, "ratio_quartiles": [140.0, 160.0]}
    line["environment"] = dataclasses.asdict(environment())
    (folder / "load.jsonl").write_text("".join(json.dumps(line | {"ratio": ratio}) + "\n" for ratio in (99.0, 150.0)))
    (folder / "accuracy.jsonl").write_text('{"case": "lenet5", "test_accuracy": 0.91904}\n')
    return folder


def test_page(results: Path) -> None:
    _, parts = made(machines(read([results / "throughput-cuda.jsonl"])), results)
    page = parts["throughput"]
    assert "## A GPU\n" in page
    assert "2026-11-21; cnnzoo 0.1.0, torch 2.11.0. Products of large matrices: bf16 2e-09 TFLOP/s at 1980 MHz." in page
    beside = 'torchvision, `torch.compile(mode="max-autotune")`'
    assert f"| resnet50, infer, bf16, batch 64: `optimize` (inductor) | 300 | {beside} | 1.75 ±7% |" in page
    assert "| lenet5, train, bf16, batch 64: CUDA graph | 3,751,000 | 37,512, a textbook's" in page
    assert "| network | torchvision, eager | timm, eager | `optimize` / torchvision, eager | remark |" in page
    assert "| resnet50 | 0.90 ±11% |  | 3.00 ±0% |  |" in page  # slower than the peer, and shown so
    assert "| vgg16 |  | 2.00 ±0% |  | timm computes fc6 and fc7 as convolutions |" in page
    assert "| resnet50 | 64 | 100 ±0% | 300 ±0% | 30% | 3.00 GiB |" in page
    assert "| lenet5, classic | 64 | 70 ±0% |  | 7% |  |" in page
    assert "| lenet5 | train | bf16 | 2 x 64 | 180 | 90% |" in page
    assert "| vgg16 | infer | bf16 | cnnzoo, compiled | failed, batch 64 | `InductorError: a &#124; kernel` |" in page
    assert "| A GPU | `resnet50`, bf16, batch 64 | 100 | 300 (`optimize`) | 0.90 ±11% |  |" in parts["summary"]
    assert "| vgg16, ready | torchvision | 1.5 s | 150 (140 to 160) |" in parts["others"]
    assert "99" not in parts["others"]
    assert "| lenet5 | 0.9190 |" in parts["others"]


def test_what_is_measured_last_counts(results: Path) -> None:
    path = measured(results, case("vgg16", OURS, "eager", 50.0, 50.0, start="two"), start="two")
    Journal(path).write([case("vgg16", OURS, "eager", start="two", status="failed")])
    _, parts = made(machines(read([path])), results)
    assert "| vgg16 | 64 | 50 ±0% |" in parts["throughput"]
    assert "| vgg16 |  | 2.00 ±0% |" in parts["throughput"]  # from the rounds in which both took turns


def test_published_rates_are_targets(results: Path) -> None:
    (machine,) = machines(read([results / "throughput-cuda.jsonl"]))
    (target,) = targets(machine, PUBLISHED)
    assert (target.value, target.at_least, target.met) == (pytest.approx(100, rel=1e-3), 50, True)


def test_plots(results: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    root = tmp_path / "root"
    (root / "docs").mkdir(parents=True)
    for name in PAGES:
        (root / name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    page, parts = made(machines(read([results / "throughput-cuda.jsonl"])), results)
    write(root, page, parts)
    folder = root / "docs" / "assets" / "benchmarks"
    drawn = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
    assert set(drawn) == {
        f"cuda-a-gpu-{what}-{theme}.svg"
        for what in ("infer-ratios", "limit", "accuracy")
        for theme in ("light", "dark")
    }
    for name, svg in drawn.items():
        ElementTree.fromstring(svg)
        assert f"(assets/benchmarks/{name}#only-{name[:-4].rpartition('-')[2]})" in parts["throughput"]
        assert "<dc:date>" not in svg
        assert "resnet50" in svg  # letters, not outlines
    assert drawn["cuda-a-gpu-limit-light.svg"] != drawn["cuda-a-gpu-limit-dark.svg"]
    (folder / "stale.svg").write_text("")
    write(root, page, parts)
    assert {path.name: path.read_text("utf-8") for path in folder.iterdir()} == drawn
    assert parts["throughput"] in (root / "docs/benchmarks.md").read_text("utf-8")
    assert parts["summary"] in (root / "README.md").read_text("utf-8")


def test_pages_are_what_the_results_make() -> None:
    result = run("report", "--check")
    assert result.exit_code == 0, result.output
    page, _ = made(machines(read(files())), RESULTS)
    shown = set(re.findall(r"assets/benchmarks/([\w-]+\.svg)", (ROOT / "docs/benchmarks.md").read_text("utf-8")))
    folder = ROOT / "docs/assets/benchmarks"
    assert shown == set(page.drawings) == {path.name for path in folder.glob("*.svg")}


def test_check_tells_a_stale_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.report.command.RESULTS", tmp_path)
    result = run("report", "--check")
    assert result.exit_code == 1
    assert "docs/benchmarks.md is not what the results make: run python -m benchmarks report" in result.output


def test_only_what_is_marked_is_filled_in() -> None:
    text = "a\n<!-- report: one -->\nold\n<!-- end of report -->\nb\n"
    once = filled(text, {"one": "new\n"})
    assert once == "a\n<!-- report: one -->\n\nnew\n\n<!-- end of report -->\nb\n"
    assert filled(once, {"one": "new\n"}) == once
    assert table(("a", "b"), [("1|2", "3")], "lr") == "| a | b |\n| --- | ---: |\n| 1&#124;2 | 3 |\n"


# Comparing


def compared(tmp_path: Path, old: list[Measurement], new: list[Measurement], *options: str, **where) -> Result:
    before = measured(tmp_path / "old", *old)
    return run("compare", before, measured(tmp_path / "new", *new, **where), *options)


def test_compare_rates(tmp_path: Path) -> None:
    old, slow = (case("vgg16", OURS, "eager", *rates) for rates in ((100.0, 101.0, 102.0), (90.0, 91.0, 92.0)))
    assert compared(tmp_path / "a", [old], [old]).exit_code == 0
    result = compared(tmp_path / "b", [old], [slow])
    assert result.exit_code == 1
    assert "1 compared, 1 slower by more than 5%" in result.output
    assert compared(tmp_path / "c", [old], [slow], "--tolerance", "0.2").exit_code == 0
    assert compared(tmp_path / "d", [slow], [old]).exit_code == 0
    scattered = case("vgg16", OURS, "eager", 80.0, 90.0, 110.0, 120.0)
    assert compared(tmp_path / "e", [scattered], [slow]).exit_code == 0  # 9 % slower, but within the spread


def test_compare_ratios_on_other_hardware(tmp_path: Path) -> None:
    def both(ours: float, theirs: float) -> list[Measurement]:
        return [case("vgg16", OURS, "eager", ours, ours), case("vgg16", "timm", "eager", theirs, theirs)]

    other = {"gpu": "Another GPU"}
    assert compared(tmp_path / "a", both(100, 50), both(10, 5), **other).exit_code == 0
    result = compared(tmp_path / "b", both(100, 50), both(100, 60), **other)
    assert result.exit_code == 1
    assert "timm" in result.output
    with_peer_only_once = compared(tmp_path / "c", both(100, 50), both(100, 50)[:1], **other)
    assert with_peer_only_once.exit_code == 1
    assert "without a peer, the hardware has to be the same, too" in with_peer_only_once.output


@pytest.mark.parametrize(("reference", "slower"), [("cnnzoo", 1.5), ("torchvision", 0.7)])
def test_compare_times(tmp_path: Path, reference: str, slower: float) -> None:
    """Whichever of the two is the reference: the file has how many times as long the candidate takes."""

    def written(name: str, ratio: float) -> Path:
        line = {"name": "load", "case": "vgg16", "median": 1.0, "quartiles": [1.0, 1.0], "reference": reference}
        line["environment"] = dataclasses.asdict(environment())
        lines = [
            line | {"candidate": one, "ratio": ratio_, "ratio_quartiles": [ratio_, ratio_]}
            for one in ("cnnzoo", "torchvision")
            for ratio_ in [1.0 if one == reference else ratio]
        ]
        path = tmp_path / name
        path.write_text("".join(json.dumps(one) + "\n" for one in lines))
        return path

    before = {"cnnzoo": 2.0, "torchvision": 0.5}[reference]
    old, new = written("old.jsonl", before), written("new.jsonl", slower)
    assert run("compare", old, old).exit_code == 0
    assert run("compare", old, new).exit_code == 1
    assert run("compare", new, old).exit_code == 0


# Other libraries' networks


def test_zoos_compares_with_a_forward() -> None:
    result = run("zoos", "--only", "shufflenet_v2_x0_5")
    assert result.exit_code == 0, result.output
    name, kind, macs, _, field, torchinfo, _, fvcore, _, note = (
        cell.strip() for cell in result.output.splitlines()[0].split("|")
    )
    assert (name, kind, macs, note) == ("torchvision: shufflenet_v2_x0_5", "exact", "0.040", "")
    assert field == "stage3.2.branch2.0: 111x111 px"
    assert (torchinfo, fvcore) == ("+0.0%", "+0.0%") or not fvcore
    assert "1 networks: 1 exact, 0 exact with a note, 0 refused, 0 wrong" in result.output
    assert "1 receptive fields are those of gradients" in result.output


def test_zoos_finds_a_wrong_receptive_field(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import zoos

    monkeypatch.setattr(zoos, "by_gradient", lambda model, name, shape: (107, 109))
    said = zoos.field_of(zoos.of_torchvision("squeezenet1_1"), [(3, 224, 224)])
    assert said.endswith("px, gradients 107x109: wrong")


def test_zoos_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import zoos

    def miscounted(model: torch.nn.Module, *shapes: tuple[int, ...]) -> cnnzoo.Summary:
        table = summary(model, *shapes)
        return dataclasses.replace(table, layers=table.layers[1:], macs=table.macs + 1)

    summary = cnnzoo.summary
    monkeypatch.setattr(zoos.cnnzoo, "summary", miscounted)
    found, expected = zoos.judged(zoos.of_torchvision("squeezenet1_1"), [(3, 224, 224)])
    assert (found.kind, expected) == ("wrong", found.macs - 1)
    assert found.note.startswith("parameters; rows do not add up; shapes; multiply-adds: ")
