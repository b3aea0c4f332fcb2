"""What every operation on the language-model head shares: logits a chunk of rows at a time.

N = rows, E = width, V = vocabulary, P = V padded. Only (rows, P) logits live at once. On a GPU, V
is padded to a multiple of 64 in the copy of the weight that the products read, so that they run on
whole tiles of the tensor cores; nothing padded leaves the operation (the padding of llm.c and
nanoGPT is in the model instead: https://github.com/karpathy/nanoGPT/blob/3adf61e1/model.py#L111).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

# Logits alive at once, in elements. CPU: fewer sums of the weight's gradient weigh more than the
# cache, measured: benchmarks/README.md, "The size of a chunk". GPU: 512 MB in bfloat16, so that a
# product has some thousand rows; not measured yet (`python -m benchmarks.gpu` does).
CHUNK_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 28}
FEWEST_ROWS = 128  # below this the matrix products lose more than the cache gains
VOCAB_MULTIPLE = {"cpu": 1, "cuda": 64}  # of P; on a CPU 50,304 was no faster than 50,257
OUT_DTYPE_PRODUCTS = (torch.float16, torch.bfloat16)


def chunk_rows(num_rows: int, vocab_size: int, device: str = "cpu") -> int:
    """Rows of logits to hold at once, so that the chunks are of nearly equal size."""
    elements = CHUNK_ELEMENTS.get(device, CHUNK_ELEMENTS["cpu"])
    most = max(FEWEST_ROWS, elements // vocab_size)
    num_chunks = max(1, -(-num_rows // most))
    return max(1, -(-num_rows // num_chunks))


def chunks(hidden: Tensor, weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Each slice of rows of `hidden` (N, E) with its logits (rows, P), by `weight` (P, E).

    All logits share one buffer, so that they may be overwritten but not kept: freshly mapped pages
    cost more than the arithmetic on a CPU.
    """
    num_rows = hidden.shape[0]
    rows = chunk_rows(num_rows, weight.shape[0], hidden.device.type)
    buffer = hidden.new_empty(rows, weight.shape[0])
    for start in range(0, num_rows, rows):
        part = slice(start, min(start + rows, num_rows))
        yield part, torch.mm(hidden[part], weight.T, out=buffer[: part.stop - part.start])


def padded(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """`weight` (V, E) in `dtype` with rows of zeros up to P; itself where nothing is to be done."""
    missing = -weight.shape[0] % VOCAB_MULTIPLE.get(weight.device.type, 1)
    cast = weight.to(dtype)
    return functional.pad(cast, (0, 0, 0, missing)) if missing else cast


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, where `total` is float32 and the product is not rounded before it is added.

    cuBLAS adds in float32 by itself; elsewhere a product of bfloat16 comes out rounded, so the sum
    over chunks has its error but not that of a bfloat16 sum.
    """
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    elif a.is_cuda and a.dtype in OUT_DTYPE_PRODUCTS:
        torch.addmm(total, a, b, out_dtype=total.dtype, out=total)
    else:
        total += a @ b
