"""What every test file shares: the variants of the registered networks, and whether there is a CUDA device."""

import os

os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", ".hypothesis")

from dataclasses import dataclass

import pytest
import torch
from torch import nn

import cnnzoo


@dataclass(frozen=True)
class Variant:
    """A network of the registry, as today's or as its paper printed it."""

    name: str
    classic: bool

    @property
    def options(self) -> dict:
        return {"classic": True} if self.classic else {}

    def build(self, **options) -> nn.Module:
        return cnnzoo.create(cnnzoo.spec(self.name).name, **self.options, **options)

    def images(self, model: nn.Module, n: int = 2) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(n, *model.input_shape, generator=generator)

    def __str__(self) -> str:
        return self.name + ("-classic" if self.classic else "")


VARIANTS = [
    Variant(name, classic)
    for name in cnnzoo.list_models()
    for classic in ((False, True) if cnnzoo.spec(name).has_classic else (False,))
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `variant` runs for every network of the registry: adding a model tests it."""
    if "variant" in metafunc.fixturenames:
        metafunc.parametrize("variant", VARIANTS, ids=str)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
