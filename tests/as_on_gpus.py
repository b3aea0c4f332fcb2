"""`llmkit` in processes on CPUs that accelerate takes for GPUs, to try FSDP2 and DeepSpeed.

    accelerate launch --config_file FILE --num_processes 2 as_on_gpus.py run RECIPE

accelerate shares a model out on GPUs alone, though FSDP2 and DeepSpeed do it on CPUs too. So here
gloo's processes are said to be of the kind that shares.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ |= {"ACCELERATE_TORCH_DEVICE": "cpu", "DS_ACCELERATOR": "cpu"}

import accelerate.state  # noqa: E402

import llmkit.ranks  # noqa: E402
from llmkit.cli import main  # noqa: E402


def gloo(self: Any, *args: Any, **kwargs: Any) -> tuple[str, Any]:
    return "gloo", accelerate.state.DistributedType.MULTI_GPU


if __name__ == "__main__":
    accelerate.state.PartialState._prepare_backend = gloo
    llmkit.ranks._has_gpu = lambda: True
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
