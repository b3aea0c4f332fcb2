"""The formula of the tanh form of GELU (https://arxiv.org/abs/1606.08415, section 2).

y = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
"""

from __future__ import annotations

import math

from torch import Tensor


def gelu(x: Tensor) -> Tensor:
    """GELU of every element; `x` and the result have one shape, any, and one floating dtype."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + inner.tanh())
