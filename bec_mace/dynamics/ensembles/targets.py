"""The temperature that a thermostat is set to, step by step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class TargetTemperature:
    """Straight lines from point to point; the last value holds after the last point.

    Args:
        given: In K: a number, ``{"from": K, "to": K}`` over all steps, or points ``[step, K]``; None without a thermostat.
        steps: Number of steps of the whole run.
    """

    def __init__(self, given: Any, steps: int) -> None:
        if isinstance(given, dict):
            given = [[0, given["from"]], [max(steps, 1), given["to"]]]
        points = given if isinstance(given, list) else [[0, math.nan if given is None else given]]
        self._steps, self._values = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))

    def __call__(self, step: int) -> float:
        """Temperature in K of a step; nan without a thermostat."""
        return float(np.interp(step, self._steps, self._values))

    @property
    def changes(self) -> bool:
        """Whether it is not the same all the time."""
        return len(self._steps) > 1

    def __str__(self) -> str:
        """From where to where, in K."""
        if not self.changes:
            return f"{self._values[0]:g} K"
        points = ", ".join(f"{value:g} K at step {step:g}" for step, value in zip(self._steps, self._values, strict=True))
        return f"{points}, changing evenly between"
