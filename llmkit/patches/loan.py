"""A loan: one attribute of one object, set for a while and then exactly as it was before.

What a patch changes on a model is a list of these: a module's `forward`, or a setting of its
configuration. Nothing is changed on a class.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, NamedTuple

Forward = Callable[..., Any]
MISSING = object()


class Loan(NamedTuple):
    """`owner.attribute` is to be `value` while the loan lasts."""

    owner: Any
    attribute: str
    value: Any

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Set the attribute on the instance; give back what stood on the instance before.

        Also where somebody else has set it meanwhile. What the class says is not touched: an
        attribute that the instance had not is removed again.
        """
        before = vars(self.owner).get(self.attribute, MISSING)
        try:
            setattr(self.owner, self.attribute, self.value)
            yield
        finally:
            if before is not MISSING:
                setattr(self.owner, self.attribute, before)
            else:
                vars(self.owner).pop(self.attribute, None)


def stock_type(module: Any) -> type:
    """The class of a module as its author wrote it: FSDP2 puts one of its own in front."""
    bases = type(module).__bases__
    return bases[1] if bases and bases[0].__name__ == "FSDPModule" else type(module)


def is_hooked(module: Any) -> bool:
    """Whether somebody listens to the module's calls, forward or backward."""
    forward = module._forward_hooks or module._forward_pre_hooks
    return bool(forward or module._backward_hooks or module._backward_pre_hooks)


def is_spread(module: Any) -> bool:
    """Whether FSDP2 has spread the module's weights, which are whole in its calls alone."""
    return stock_type(module) is not type(module)


def forward_loan(module: Any, forward: Callable[[Any, Forward, dict[str, Any]], Any]) -> Loan:
    """Lend `module` a forward with the signature of the one that stands there.

    Args:
        forward: takes the module, the forward that stood there before (which takes the module as
            its first argument), and all arguments of the call by name.
    """
    bound = module.forward
    on_instance = "forward" in vars(module)
    names = list(inspect.signature(bound).parameters)

    def before(self: Any, **kwargs: Any) -> Any:
        # A method of the class goes with a copy of the module that is made meanwhile.
        return bound(**kwargs) if on_instance else type(self).forward(self, **kwargs)

    @functools.wraps(bound.__func__ if inspect.ismethod(bound) else bound)
    def lent(self: Any, *args: Any, **kwargs: Any) -> Any:
        return forward(self, before, dict(zip(names, args, strict=False)) | kwargs)

    vars(lent)["stood_before"] = bound  # for those who look for strangers underneath
    return Loan(module, "forward", MethodType(lent, module))
