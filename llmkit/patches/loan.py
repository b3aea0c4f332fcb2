"""A loan: one attribute of one object, set for a while and then exactly as it was before.

What a patch changes on a model is a list of these: a module's `forward`, or a setting of its
configuration. Nothing is changed on a class.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

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
