"""The two steps on a chunk of logits by Triton kernels.

Forward, a program takes a row and folds its columns into maximum m, s = sum exp(z - m) and
x = sum exp(z - m) (z - m), each rescaled when m grows; entropy = log s - x / s. Backward, a program
takes a block of columns of a row. Arithmetic is float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST_BLOCK = 4096  # columns at once; not measured yet


def statistics(logits: Tensor, targets: Tensor, vocab_size: int, ignore_index: int) -> Tensor:
    """log_probs, entropy and log sum exp of each row of `logits` (n, P): (3, n), float32."""
    num_rows = logits.shape[0]
    found = torch.empty(3, num_rows, dtype=torch.float32, device=logits.device)
    block = min(LARGEST_BLOCK, triton.next_power_of_2(vocab_size))
    _statistics_kernel[(num_rows,)](
        logits,
        logits.stride(0),
        targets.contiguous(),
        found,
        num_rows,
        vocab_size,
        ignore_index,
        BLOCK=block,
        num_warps=min(8, max(1, block // 256)),
    )
    return found


def gradient_(
    logits: Tensor,  # (n, P), overwritten with dz
    targets: Tensor,  # (n,) int64
    statistics: Tensor,  # (3, n), as `statistics` gave them
    incoming: Tensor,  # (2, n): the gradients by log-probability and by entropy
    vocab_size: int,
    ignore_index: int,
) -> None:
    """dz = a ([v = t] - p) - b p (log p + entropy) in the place of the logits."""
    num_rows, num_columns = logits.shape
    block = min(LARGEST_BLOCK, triton.next_power_of_2(num_columns))
    _gradient_kernel[(num_rows, triton.cdiv(num_columns, block))](
        logits,
        logits.stride(0),
        targets.contiguous(),
        statistics.contiguous(),
        incoming.contiguous(),
        num_rows,
        vocab_size,
        num_columns,
        ignore_index,
        BLOCK=block,
        num_warps=min(8, max(1, block // 256)),
    )


@triton.jit
def _statistics_kernel(
    logits, row_stride, targets, found, num_rows, vocab_size, ignore_index, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    z_row = logits + row * row_stride
    target = tl.load(targets + row)
    counts = target != ignore_index
    columns = tl.arange(0, BLOCK)
    largest = -float("inf")
    total = 0.0
    weighted = 0.0  # sum exp(z - largest) (z - largest)
    for start in range(0, vocab_size, BLOCK):
        inside = start + columns < vocab_size
        z = tl.load(z_row + start + columns, mask=inside, other=-float("inf")).to(tl.float32)
        larger = tl.maximum(largest, tl.max(z, axis=0))
        # In the first round `largest` is -inf and `total` 0, and inf times 0 would be NaN.
        moved = tl.where(total > 0.0, largest - larger, 0.0)
        scale = tl.exp(moved)
        shifted = tl.where(inside, z - larger, 0.0)
        share = tl.where(inside, tl.exp(shifted), 0.0)
        weighted = scale * (weighted + moved * total) + tl.sum(share * shifted, axis=0)
        total = total * scale + tl.sum(share, axis=0)
        largest = larger
    known = (target >= 0) & (target < vocab_size)
    z_target = tl.load(z_row + target, mask=known, other=float("nan")).to(tl.float32)
    log_prob = z_target - largest - tl.log(total)
    entropy = tl.log(total) - weighted / total
    tl.store(found + row, tl.where(counts, log_prob, 0.0))
    tl.store(found + num_rows + row, tl.where(counts, entropy, 0.0))
    tl.store(found + 2 * num_rows + row, largest + tl.log(total))


@triton.jit
def _gradient_kernel(
    logits,
    row_stride,
    targets,
    statistics,
    incoming,
    num_rows,
    vocab_size,
    num_columns,
    ignore_index,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = logits + row * row_stride + columns
    target = tl.load(targets + row)
    counts = target != ignore_index
    by_log_prob = tl.where(counts, tl.load(incoming + row), 0.0)
    by_entropy = tl.where(counts, tl.load(incoming + num_rows + row), 0.0)
    entropy = tl.load(statistics + num_rows + row)
    log_sum = tl.load(statistics + 2 * num_rows + row)
    inside = columns < vocab_size
    log_p = tl.load(at, mask=inside, other=0.0).to(tl.float32) - log_sum
    p = tl.exp(log_p)
    gradient = by_log_prob * (tl.where(columns == target, 1.0, 0.0) - p)
    gradient -= by_entropy * p * (log_p + entropy)
    gradient = tl.where(inside, gradient, 0.0).to(logits.dtype.element_ty)
    tl.store(at, gradient, mask=columns < num_columns)
