"""cnnzoo: the classic convolutional networks for PyTorch, checked layer by layer against their papers.

>>> import cnnzoo
>>> model = cnnzoo.create("lenet5", classic=True)
>>> sum(parameter.numel() for parameter in model.parameters())
60000
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cnnzoo._public import *  # noqa: F403
else:  # the names are imported on first use: `cnnzoo --help` need not wait for torch

    def __getattr__(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        public = importlib.import_module("cnnzoo._public")
        if name not in vars(public):
            from cnnzoo.errors import unknown

            raise AttributeError(str(unknown("cnnzoo", "name", name, __dir__())))
        value = globals()[name] = vars(public)[name]
        return value


_ROOMS = {"data", "initialization", "interpretation", "models", "nn", "shapes", "training"}
"""The modules whose names are public, too."""


def __dir__() -> list[str]:
    public = vars(importlib.import_module("cnnzoo._public"))
    hidden = {name for name, value in public.items() if name.startswith("_") or isinstance(value, ModuleType)}
    return sorted({*public} - hidden | _ROOMS | {"__version__"})
