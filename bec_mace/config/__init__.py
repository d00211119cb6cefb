"""The words of a YAML file: what may stand in it, where it stands, and what to say where it is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bec_mace.lazy import lazy

if TYPE_CHECKING:
    from bec_mace.config.dynamics import MDConfig, load_md_config
    from bec_mace.config.schema import (
        CommitteeConfig,
        DataConfig,
        KernelModelConfig,
        KernelRunConfig,
        ModelConfig,
        RunConfig,
        TrainingConfig,
        format_config,
        load_config,
        read_config,
        read_model_config,
        save_config,
    )

_HOME = {
    **dict.fromkeys(("MDConfig", "load_md_config"), "dynamics"),
    **dict.fromkeys((
        "CommitteeConfig",
        "DataConfig",
        "KernelModelConfig",
        "KernelRunConfig",
        "ModelConfig",
        "RunConfig",
        "TrainingConfig",
        "format_config",
        "load_config",
        "read_config",
        "read_model_config",
        "save_config",
    ), "schema"),
}

__all__ = [
    "CommitteeConfig",
    "DataConfig",
    "KernelModelConfig",
    "KernelRunConfig",
    "MDConfig",
    "ModelConfig",
    "RunConfig",
    "TrainingConfig",
    "format_config",
    "load_config",
    "load_md_config",
    "read_config",
    "read_model_config",
    "save_config",
]

__getattr__, __dir__ = lazy(__name__, _HOME)
