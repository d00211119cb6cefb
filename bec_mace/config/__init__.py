"""The words of a YAML file: what may stand in it, where it stands, and what to say where it is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bec_mace.lazy import lazy

if TYPE_CHECKING:
    from bec_mace.config.dynamics import MDConfig, load_md_config
    from bec_mace.config.model import (
        BackboneConfig,
        CommitteeConfig,
        KernelModelConfig,
        MaceSizes,
        ModelConfig,
        ZblSizes,
        read_model_config,
    )
    from bec_mace.config.schema import (
        CommonConfig,
        DataConfig,
        FitConfig,
        IndexFile,
        KernelRunConfig,
        LossConfig,
        OptimizerConfig,
        RunConfig,
        ScheduleConfig,
        TrainingConfig,
        format_config,
        load_config,
        read_config,
        save_config,
    )
    from bec_mace.config.section import Section

__all__ = [
    "BackboneConfig",
    "CommitteeConfig",
    "CommonConfig",
    "DataConfig",
    "FitConfig",
    "IndexFile",
    "KernelModelConfig",
    "KernelRunConfig",
    "LossConfig",
    "MDConfig",
    "MaceSizes",
    "ModelConfig",
    "OptimizerConfig",
    "RunConfig",
    "ScheduleConfig",
    "Section",
    "TrainingConfig",
    "ZblSizes",
    "format_config",
    "load_config",
    "load_md_config",
    "read_config",
    "read_model_config",
    "save_config",
]

_HOME = {
    name: module
    for module, names in {
        "dynamics": "MDConfig load_md_config",
        "model": "BackboneConfig CommitteeConfig KernelModelConfig MaceSizes ModelConfig ZblSizes read_model_config",
        "schema": "CommonConfig DataConfig FitConfig IndexFile KernelRunConfig LossConfig OptimizerConfig "
        "RunConfig ScheduleConfig TrainingConfig format_config load_config read_config save_config",
        "section": "Section",
    }.items()
    for name in names.split()
}

__getattr__, __dir__ = lazy(__name__, _HOME)
