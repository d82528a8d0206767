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


# The names are imported on first use: `cnnzoo --help` need not wait for torch.
def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    public = importlib.import_module("cnnzoo._public")
    if name not in vars(public):
        from cnnzoo.errors import unknown

        raise AttributeError(str(unknown("cnnzoo", "name", name, __dir__())))
    value = vars(public)[name]
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    public = importlib.import_module("cnnzoo._public")
    names = (name for name, value in vars(public).items() if not name.startswith("_") and _is_public(name, value))
    return sorted({*names, "__version__"})


def _is_public(name: str, value: object) -> bool:
    return name in ("initialization", "nn") or not isinstance(value, ModuleType)
