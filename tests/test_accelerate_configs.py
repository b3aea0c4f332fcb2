"""The launch shapes are what accelerate reads, and each is the shape that its name says."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.utils import DistributedType

FOLDER = Path(__file__).resolve().parent.parent / "accelerate_configs"
SHAPES = {
    "cpu": (DistributedType.NO, 1, 1),
    "single_gpu": (DistributedType.NO, 1, 1),
    "ddp": (DistributedType.MULTI_GPU, 8, 1),
    "fsdp2": (DistributedType.FSDP, 8, 1),
    "zero2": (DistributedType.DEEPSPEED, 8, 1),
    "zero3": (DistributedType.DEEPSPEED, 8, 1),
    "multi_node": (DistributedType.MULTI_GPU, 16, 2),
}


def test_every_file_is_in_the_table() -> None:
    assert {file.stem for file in FOLDER.glob("*.yaml")} == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_accelerate_reads_it(name: str) -> None:
    """Its own class refuses an unknown key."""
    config = ClusterConfig.from_yaml_file(str(FOLDER / f"{name}.yaml"))
    kind, processes, machines = SHAPES[name]
    assert config.distributed_type == kind
    assert (config.num_processes, config.num_machines) == (processes, machines)
    assert config.use_cpu is (name == "cpu")
    assert config.mixed_precision == "no", "the recipe's args decide"


@pytest.mark.parametrize(("name", "stage"), [("zero2", 2), ("zero3", 3)])
def test_the_stage_of_zero(name: str, stage: int) -> None:
    config = ClusterConfig.from_yaml_file(str(FOLDER / f"{name}.yaml"))
    assert config.deepspeed_config["zero_stage"] == stage
    assert config.deepspeed_config["zero3_init_flag"] is (stage == 3)


def test_fsdp_is_version_2_and_saves_plain_folders() -> None:
    config = ClusterConfig.from_yaml_file(str(FOLDER / "fsdp2.yaml"))
    assert config.fsdp_config["fsdp_version"] == 2
    assert config.fsdp_config["fsdp_state_dict_type"] == "FULL_STATE_DICT"
