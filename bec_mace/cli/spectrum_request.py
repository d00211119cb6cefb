"""What ``bec-mace spectrum`` is asked for: runs, what reads them, and files to write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bec_mace.cli.options import CURRENTS, JSON, PICTURES, TABLES, check_outputs, load
from bec_mace.errors import SpectrumError

if TYPE_CHECKING:
    from bec_mace.models import PolarizationModel
    from bec_mace.spectra.currents import Currents


@dataclass(frozen=True)
class SpectrumRequest:
    """The options of the command, under their names; ``settings`` are those of the spectrum."""

    runs: tuple[str, ...]
    output: Path | None
    json_file: Path | None
    plot_file: Path | None
    reference: Path | None
    currents_file: Path | None
    raman: bool
    laser: float | None
    beads: bool
    model: str | None
    time_step: float | None
    velocity_unit: str | None
    device: str
    precision: str
    batch_size: int | None
    settings: dict[str, Any]

    def check(self) -> None:
        """Say what is missing or does not fit together before anything slow is imported.

        Raises:
            SpectrumError: A run, a model or an option.
            FileError: A file that would be overwritten or cannot be written.
        """
        check_outputs(
            [text for text in (*self.runs, self.model, self.reference) if text is not None],
            output=(self.output, TABLES, "a table"),
            json=(self.json_file, JSON, "results"),
            plot=(self.plot_file, PICTURES, "a picture"),
            **{"save-currents": (self.currents_file, CURRENTS, "currents")},
        )
        of_currents = (self.currents_file, self.reference, self.velocity_unit)
        if self.raman and (self.model is None or self.beads or any(value is not None for value in of_currents)):
            raise SpectrumError(
                "--raman: takes trajectories and --model, and no --reference, --save-currents, --velocity-unit or --beads"
            )
        if self.laser is not None and not self.raman:
            raise SpectrumError("--laser: is for Raman spectra, with --raman")
        self._check_sources()
        if self.beads and self.settings["temperature"] is None:
            raise SpectrumError(
                "--beads: beads move at many times the temperature of the simulation; give that with --temperature"
            )

    def _check_sources(self) -> None:
        for run in self.runs:
            if not Path(run).exists():
                raise SpectrumError(f"{run}: no such file or folder")
        files = [run for run in self.runs if not Path(run).is_dir() and Path(run).suffix.lower() not in CURRENTS]
        if self.model is None:
            if files:
                raise SpectrumError(f"{files[0]}: is a trajectory; name a model for its Born effective charges with --model")
            of_trajectories = {
                "--time-step": self.time_step,
                "--velocity-unit": self.velocity_unit,
                "--save-currents": self.currents_file,
            }
            for name, value in of_trajectories.items():
                if value is not None:
                    raise SpectrumError(f"{name}: is for trajectories, with --model")
            return
        if len(files) + sum(Path(run).is_dir() for run in self.runs) < len(self.runs):
            raise SpectrumError("--model: a file of currents holds Z* already; name trajectories or run folders")
        if self.currents_file is not None and len(self.runs) > 1 and not self.beads:
            raise SpectrumError("--save-currents: holds one run; name one trajectory")

    def network(self) -> PolarizationModel:
        """The model, after the runs have said how far apart their frames are.

        Raises:
            SpectrumError: A run does not say it, or says something else.
            ModelError: There is no such model.
        """
        from bec_mace.spectra.from_trajectory import frame_interval

        for run in self.runs:
            frame_interval(run, self.time_step)
        return load(str(self.model), self.device, self.precision)

    def currents(self) -> list[Currents]:
        """Those of each run, from its file or from its trajectory and the model."""
        from bec_mace.spectra.currents import Currents

        if self.model is None:
            return [Currents.read(run) for run in self.runs]
        from bec_mace.cli.console import with_progress
        from bec_mace.spectra.from_trajectory import currents_from_trajectory

        network = self.network()
        options: dict[str, Any] = {"velocity_unit": self.velocity_unit, "batch_size": self.batch_size}
        return [currents_from_trajectory(run, network, self.time_step, progress=with_progress, **options) for run in self.runs]
