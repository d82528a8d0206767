"""What every test file shares: the variants of the registered networks, and whether there is a CUDA device."""

import functools
import os

os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", ".hypothesis")

from dataclasses import dataclass
from typing import Any

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

    def build(self, **options) -> Any:
        return cnnzoo.create(cnnzoo.spec(self.name).name, **self.options, **options)

    def settled(self, **options) -> cnnzoo.CNN:
        """In evaluation mode, its batch normalisation knowing images: without, hundreds of blocks overflow."""
        model = self.build(seed=0, **options)
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if norms:
            for norm in norms:
                norm.momentum = 1.0
            with torch.no_grad():
                model.train()(self.images(model, 4).to(next(model.parameters())))
            for norm in norms:
                norm.momentum = 0.1
        return model.eval()

    @property
    def cost(self) -> int:
        """Multiply-adds, as the paper's table has them."""
        known = cnnzoo.spec(self.name)
        tables = (t for t in known.paper.table["networks"] if t["name"] == self.name)
        rows = (row for t in tables if t.get("classic", False) == self.classic for row in t["rows"])
        return max(
            (row["macs"] for row in rows if row["layer"] == "total" and isinstance(row.get("macs"), int)), default=0
        )

    @functools.cached_property
    def small(self) -> int | None:
        """The side of the smallest images worth testing with, or None where the network takes one size only."""
        model = self.build(device="meta")
        assert model.input_shape
        channels, height, width = model.input_shape
        for part in (4, 3, 2) if height == width else ():
            try:
                cnnzoo.infer_shapes(model, (channels, height // part, height // part))
            except cnnzoo.ShapeError:
                continue
            return height // part
        return None

    def images(self, model: cnnzoo.CNN, n: int = 2, *, nominal: bool = False) -> torch.Tensor:
        """Random images, of the size the network is made for or of the smallest worth testing with."""
        assert model.input_shape
        channels, *size = model.input_shape
        if self.small and not nominal:
            size = [self.small, self.small]
        return torch.randn(n, channels, *size, generator=torch.Generator().manual_seed(0))

    def __str__(self) -> str:
        return self.name + ("-classic" if self.classic else "")


VARIANTS = [
    Variant(name, classic)
    for name in cnnzoo.list_models()
    for classic in ((False, True) if cnnzoo.spec(name).has_classic else (False,))
]


@functools.cache
def smallest() -> frozenset[Variant]:
    """Of each family, the network that costs least, as printed and as it is today."""
    families: dict[tuple[str, bool], list[Variant]] = {}
    for one in VARIANTS:
        families.setdefault((cnnzoo.spec(one.name).family, one.classic), []).append(one)
    return frozenset(min(family, key=lambda one: one.cost) for family in families.values())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `variant` runs for every network of the registry: adding a model tests it.

    One that is marked `thorough` counts as slow on all but the smallest network of each family.
    """
    if "variant" not in metafunc.fixturenames:
        return
    thorough = metafunc.definition.get_closest_marker("thorough")
    marks = [[pytest.mark.slow] if thorough and one not in smallest() else [] for one in VARIANTS]
    parameters = [pytest.param(one, marks=mark, id=str(one)) for one, mark in zip(VARIANTS, marks, strict=True)]
    metafunc.parametrize("variant", parameters)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
