"""Tracing with `torch.fx` while other threads go on.

While torch.fx traces one network, it replaces how every module of the process is called and how its attributes are
read. What other threads do meanwhile must not end up in the graph, nor fail because their layers are not of the network
that is traced.
"""

import os
import threading
from collections.abc import Callable
from typing import Any

from torch import fx, nn

# Two traces at a time would restore each other's replacements, for good. A fork waits, so that no child is left with
# replaced methods, or with a lock that nobody gives back.
_one_at_a_time = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_one_at_a_time.acquire,
        after_in_parent=_one_at_a_time.release,
        after_in_child=_one_at_a_time.release,
    )


class Tracer(fx.Tracer):
    """torch.fx's tracer, which leaves alone what other threads do."""

    _thread = 0

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        with _one_at_a_time:
            self._thread = threading.get_ident()
            return super().trace(root, concrete_args)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return self.call_layer(m, forward, args, kwargs)

    def call_layer(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """`call_module`, of this thread."""
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)
