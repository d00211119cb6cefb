"""All that labels betray about how they were made, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from bec_mace.data.formats.site_symmetry import NoSpglibError, find_operations
from bec_mace.data.frames import Frame
from bec_mace.data.quality import sum_rules
from bec_mace.data.quality.bond_lengths import strange_distances
from bec_mace.data.quality.egg_box import find_egg_box
from bec_mace.data.quality.index_order import is_transposed, rotates
from bec_mace.data.quality.label_sizes import find_strange
from bec_mace.data.quality.near_duplicates import CLOSE, near_duplicates
from bec_mace.data.quality.outliers import LARGEST_CHARGE, SPREADS, Distances, trivial_distances
from bec_mace.data.quality.periodicity import warning_of
from bec_mace.errors import DataError

Z = "born_effective_charges"
SYMMETRY = 0.05
"""The largest component by which Z* may break the symmetry of the crystal, in e."""
SYMMETRY_TOLERANCE = 1e-3
"""How far positions may be from a symmetry that counts, in Å."""
_LARGEST_CRYSTAL = 500
Measures = list[tuple[int, float]]
"""Values by number of the frame."""
Sentence = Callable[[int, float], str]
"""What to say of a frame, by its number, whose measure is too large."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        check: Which check found it.
        frames: Numbers of the frames; empty where it is about all of them.
        text: A sentence, with the first frame.
    """

    check: str
    frames: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class CheckRow:
    """One check.

    Attributes:
        name: What is checked.
        n_frames: How many frames could be.
        n_found: How many are wrong.
        typical: Median of the measure over the frames; None where there is no measure.
        worst: Its largest value.
        limit: The value beyond which a frame is wrong; None where it is not the same for all.
        unit: Of the three.
        worst_in: The frame of the largest value.
    """

    name: str
    n_frames: int
    n_found: int
    typical: float | None = None
    worst: float | None = None
    limit: float | None = None
    unit: str = ""
    worst_in: str = ""


@dataclass
class Checkup:
    """The result of all checks.

    Attributes:
        sources: Of the frames.
        rows: One for each check.
        findings: What is wrong.
        left_out: Checks that could not be made, and why.
        values: Measures by name, each a list of (number of the frame, value); for plots.
        distances: From the trivial model, by atom; None without Z*.
    """

    sources: list[str]
    rows: list[CheckRow] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    values: dict[str, Measures] = field(default_factory=dict)
    distances: Distances | None = None

    @property
    def wrong(self) -> set[int]:
        """Numbers of the frames with which something is wrong."""
        return {number for finding in self.findings for number in finding.frames}

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        findings = [{**asdict(one), "frames": [self.sources[number] for number in one.frames]} for one in self.findings]
        return {
            "n_frames": len(self.sources),
            "n_wrong": len(self.wrong),
            "checks": [asdict(row) for row in self.rows],
            "findings": findings,
            "left_out": self.left_out,
            "frames": self._frames(),
        }

    def _frames(self) -> list[dict[str, Any]]:
        wrong = self.wrong
        frames: list[dict[str, Any]] = [{"source": one, "passes": n not in wrong} for n, one in enumerate(self.sources)]
        for name, pairs in self.values.items():
            for number, value in pairs:
                frames[number][name] = value
        return frames

    def measure(
        self, name: str, values: list[tuple[int, float]], limit: float | np.ndarray, unit: str, sentence: Sentence
    ) -> None:
        """Add a check that has a number for each frame."""
        self.values[name] = values
        if not values:
            return
        limits = np.broadcast_to(limit, len(values))
        found = [(number, value) for (number, value), most in zip(values, limits, strict=True) if value > most]
        worst, value = max(values, key=lambda pair: pair[1])
        typical = float(np.median([one for _, one in values]))
        most = float(limits[0]) if np.ptp(limits) == 0 else None
        self.rows.append(CheckRow(name, len(values), len(found), typical, value, most, unit, self.sources[worst]))
        self.findings += [Finding(name, (number,), f"{self.sources[number]}: {sentence(number, one)}") for number, one in found]

    def note(self, name: str, n_frames: int, found: list[Finding]) -> None:
        """Add a check that has none."""
        self.findings += found
        frames = {number for finding in found for number in finding.frames}
        self.rows.append(CheckRow(name, n_frames, len(frames) or len(found)))


def check_labels(
    frames: Sequence[Frame], *, acoustic: float = sum_rules.ACOUSTIC, spreads: float = SPREADS, close: float = CLOSE
) -> Checkup:
    """Check structures and labels.

    Args:
        frames: Any frames.
        acoustic: The largest residual of a row of the acoustic sum rule over the root of the number of atoms, in e.
        spreads: How many spreads an atom may be from the trivial model.
        close: How far atoms of a near duplicate are at most from those of the other, in Å.
    """
    out = Checkup([frame.source for frame in frames])
    molecules = [number for number, frame in enumerate(frames) if rotates(frame)]
    transposed = {number for number in molecules if is_transposed(frames[number])}
    _sum_rules(out, frames, acoustic, [number for number in molecules if number not in transposed])
    if molecules:
        out.note("transposed", len(molecules), [_transposed(frames, number) for number in sorted(transposed)])
    _site_symmetry(out, frames)
    _outliers(out, frames, spreads)
    _sizes(out, frames)
    pairs = list(near_duplicates(frames, close))
    out.note("near duplicates", len(frames), [_duplicate(frames, *pair) for pair in pairs])
    return out


def _sum_rules(out: Checkup, frames: Sequence[Frame], acoustic: float, molecules: Sequence[int]) -> None:
    labelled = [number for number, frame in enumerate(frames) if Z in frame.labels]
    for rule, rows_of, largest, unit, numbers in (
        ("acoustic sum rule", sum_rules.acoustic_rows, acoustic, "e", labelled),
        ("rotational sum rule", sum_rules.rotational_rows, sum_rules.ROTATIONAL, "e Å", molecules),
    ):
        looked_at = [(number, rows_of(frames[number])) for number in numbers]
        limits = sum_rules.row_limits([frames[number] for number in numbers], [rows for _, rows in looked_at], largest)
        for axis, letter in enumerate("xyz"):
            values = [(number, float(rows[axis])) for number, rows in looked_at]
            out.measure(f"{rule}, P along {letter}", values, limits, f"{unit}/√n", _broken_row(frames, rule, letter, unit))


def _broken_row(frames: Sequence[Frame], rule: str, letter: str, unit: str) -> Sentence:
    def sentence(number: int, value: float) -> str:
        size = value * np.sqrt(len(frames[number]))
        return f"the {rule} fails by {size:.3f} {unit} in the row of the polarization along {letter}."

    return sentence


def _transposed(frames: Sequence[Frame], number: int) -> Finding:
    text = "Z* fits the rotational sum rule clearly better with its indices exchanged; change index_order."
    return Finding("transposed", (number,), f"{frames[number].source}: {text}")


def _site_symmetry(out: Checkup, frames: Sequence[Frame]) -> None:
    values = []
    for number, frame in enumerate(frames):
        if Z not in frame.labels or not frame.pbc.all() or len(frame) > _LARGEST_CRYSTAL:
            continue
        try:
            atoms = replace(frame, labels={}).to_atoms()
            found = find_operations(atoms, f"{frame.source}: the symmetry of sites is not checked", SYMMETRY_TOLERANCE)
        except NoSpglibError as error:
            out.left_out.append(str(error))
            break
        except DataError as error:
            out.left_out.append(str(error))
            continue
        if len(found.rotations) > 1:
            rest = np.abs(found.average(frame.labels[Z]) - frame.labels[Z])
            values.append((number, float(rest.max())))
    out.measure("site symmetry", values, SYMMETRY, "e", lambda _, value: f"Z* breaks the symmetry by {value:.3f} e.")


def _outliers(out: Checkup, frames: Sequence[Frame], spreads: float) -> None:
    from ase.data import chemical_symbols

    found = out.distances = trivial_distances(frames)
    if found is None:
        return
    values = []
    for number in np.unique(found.frames):
        own = found.frames == number
        values.append((int(number), float(found.spreads[own].max())))

    def sentence(number: int, value: float) -> str:
        own = np.flatnonzero(found.frames == number)
        atom = own[int(found.spreads[own].argmax())]
        symbol, many = chemical_symbols[found.elements[atom]], int((found.spreads[own] > spreads).sum())
        return (
            f"Z* of atom {found.atoms[atom]} ({symbol}) is {found.distances[atom]:.2f} e from the charge "
            f"{found.charges[int(found.elements[atom])]:+.2f} e of {symbol}, {value:.0f} spreads"
            f"{f', and {many - 1} more atoms' if many > 1 else ''}."
        )

    out.measure("far from one charge per element", values, spreads, "spreads", sentence)


def _sizes(out: Checkup, frames: Sequence[Frame]) -> None:
    from ase.data import chemical_symbols

    numbers = {id(frame): number for number, frame in enumerate(frames)}
    groups = [(tuple(numbers[id(frame)] for frame in one.frames), one.text()) for one in find_strange(frames)]
    strange = [Finding("sizes and units", *group) for group in groups]
    strange += list(_each("sizes and units", frames, strange_distances, with_source=True))
    for element, charge in (out.distances.charges if out.distances else {}).items():
        if abs(charge) > LARGEST_CHARGE:
            text = f"the median charge of {chemical_symbols[element]} is {charge:+.1f} e; are Z* in another unit than e?"
            strange.append(Finding("sizes and units", (), text))
    out.note("sizes and units", len(frames), strange)
    out.note("cells without periodicity", len(frames), list(_each("cells without periodicity", frames, warning_of)))
    box = find_egg_box(frames)
    text = f"Z* follow the real-space grid of the calculation: {box.text()}." if box is not None else ""
    periodic = sum(Z in frame.labels and bool(frame.pbc.all()) for frame in frames)
    if periodic:
        out.note("egg box, of the set", periodic, [Finding("egg box", (), text)] if text else [])


def _each(name: str, frames: Sequence[Frame], look: Callable[[Frame], str], with_source: bool = False) -> Iterator[Finding]:
    for number, frame in enumerate(frames):
        if text := look(frame):
            yield Finding(name, (number,), f"{frame.source}: {text}" if with_source else text)


def _duplicate(frames: Sequence[Frame], first: int, second: int, distance: float) -> Finding:
    one, other = frames[first].labels.get(Z), frames[second].labels.get(Z)
    apart = "" if one is None or other is None else f"; their Z* differ by up to {np.abs(one - other).max():.3f} e"
    text = f"{frames[second].source}: nearly the structure of {frames[first].source}, atoms within {distance:.4f} Å{apart}."
    return Finding("near duplicates", (second,), text)
