"""Tracing leaves alone what other threads do, and what is forked meanwhile."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import cnnzoo
from cnnzoo.support.tracing import Tracer


def test_threads_that_trace_and_threads_that_run_do_not_meet() -> None:
    network = cnnzoo.tutorial_cifar_resnet().eval()
    images = torch.rand(1, *network.input_shape)
    with torch.inference_mode():
        expected = network(images)
    layer = next(name for name, _ in network.named_modules() if name.count(".") == 2)
    before = nn.Module.__call__, nn.Module.__getattr__
    end = time.monotonic() + 4

    def until_the_end(work) -> int:
        rounds = 0
        while time.monotonic() < end:
            work()
            rounds += 1
        return rounds

    def run() -> None:
        with torch.inference_mode():
            assert torch.equal(network(images), expected)

    works = [
        *(run, run, lambda: cnnzoo.create("lenet5"), lambda: cnnzoo.load_pretrained("lenet5")),
        *(lambda: cnnzoo.extract(network, layer)(images), lambda: cnnzoo.extract(network, layer)(images)),
        *(lambda: cnnzoo.fold_batchnorm(network), lambda: cnnzoo.fold_batchnorm(network)),
    ]
    with ThreadPoolExecutor(len(works)) as threads:
        assert all(threads.map(until_the_end, works))
    assert (nn.Module.__call__, nn.Module.__getattr__) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_waits_for_a_trace() -> None:
    """A child would have the replaced methods for good, and a lock that nobody gives back."""

    class Slow(nn.Module):
        def forward(self, x):
            inside.set()
            time.sleep(0.3)
            return x + 1

    inside = threading.Event()
    call = nn.Module.__call__
    thread = threading.Thread(target=lambda: Tracer().trace(Slow()))
    thread.start()
    assert inside.wait(30)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert nn.Module.__call__ is call
            assert len(Tracer().trace(nn.Sequential(nn.ReLU())).nodes) == 3
            status = 0
        finally:
            os._exit(status)
    thread.join()
    limit = time.monotonic() + 60
    while not (done := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > limit:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    assert done[1] == 0
