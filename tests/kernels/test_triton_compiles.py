"""Every Triton kernel compiles for an H100, which needs Triton's compiler but no GPU.

The interpreter runs a kernel as Python does; the compiler asks more of it (types that stay the same
round a loop, shapes that are powers of two). A process of its own, because TRITON_INTERPRET decides
once and for all what a kernel is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import warnings
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from llmkit.kernels.fused_head_loss import fused as head
from llmkit.kernels.gelu import fused as gelu
from llmkit.kernels.layer_norm import fused as norm
from llmkit.kernels.token_log_probs import fused as log_probs

warnings.simplefilter("ignore")

def check(kernel, types, **constants):
    names = list(kernel.arg_names)
    signature = dict(zip(names, types.split() + ["constexpr"] * len(constants), strict=True))
    source = ASTSource(kernel, signature, constexprs=constants)
    made = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8})
    assert "cubin" in made.asm
    print(kernel.fn.__name__)

for t in ("*bf16", "*fp32"):
    check(head._cross_entropy_kernel, f"{t} i32 *i64 *fp32 i32 i32 i32", BLOCK=4096)
    check(log_probs._statistics_kernel, f"{t} i32 *i64 *fp32 i32 i32 i32", BLOCK=4096)
    check(log_probs._gradient_kernel, f"{t} i32 *i64 *fp32 *fp32 i32 i32 i32 i32", BLOCK=4096)
    check(gelu._forward_kernel, f"{t} {t} i32", BLOCK=1024)
    check(gelu._backward_kernel, f"{t} {t} {t} i32", BLOCK=1024)
    for adds in (True, False):
        types = f"{t} *fp32 *fp32 *fp32 *fp32 {t} *fp32 i32 i32 fp32"
        check(norm._forward_kernel, types, ADDS=adds, BLOCK=2048)
        types = f"*fp32 *fp32 *fp32 *fp32 {t} *fp32 *fp32 i32 i32 i32"
        check(norm._backward_kernel, types, ADDS=adds, BLOCK=2048)
"""


@pytest.mark.slow
def test_every_kernel_compiles_for_sm_90(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="no triton here: pip install 'llmkit[gpu]'")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.split()) == 2 * 9
