"""Which device a process computes on."""

import pytest
import torch

import cnnzoo
from cnnzoo.support.devices import own_device


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert own_device("cuda") == torch.device("cuda")  # the current one
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device() == own_device("cuda") == torch.device("cuda", 1)
    assert own_device("cuda:0") == torch.device("cuda", 0)
    assert own_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(cnnzoo.OptionError, match=r"no cuda:2; GPUs that torch finds here: 2; start as many processes$"):
        own_device()
    with pytest.raises(cnnzoo.OptionError, match=r"no cuda:3; GPUs that torch finds here: 2; choose a lower number$"):
        own_device("cuda:3")
