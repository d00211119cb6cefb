r"""Born effective charges from forces in electric fields, of any program.

.. math:: Z_{j,ab} = \frac{\partial F_{j,b}}{\partial E_a}, \qquad
          \tfrac12 (F_{j,b}(E) - F_{j,b}(-E)) = \sum_a E_a Z_{j,ab} + O(E^3)

Each field comes with its opposite, and even orders cancel. Three directions give all components, by least squares where there
are more. With the symmetry R of a crystal that takes atom j to j', F at j' in the field R E is R F at j in the field E, so
that fewer directions may do. The fields are those that a force on a free charge q would follow as q E.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from bec_mace.config.field_runs import FieldRunsConfig, load_field_runs
from bec_mace.data.formats import find_format
from bec_mace.data.formats.site_symmetry import find_operations
from bec_mace.data.frames import Frame
from bec_mace.data.label_units import in_units_of_the_package
from bec_mace.data.reading import expand, file_frames
from bec_mace.errors import DataError
from bec_mace.units import BOHR, HARTREE

logger = logging.getLogger(__name__)

_Z = "born_effective_charges"
_SAME = 1e-4
"""How far positions and cells of one structure may differ between runs, in Å."""
_FLAT = 1e-3
"""Fields whose smallest singular value is this part of the largest do not span all directions."""
_INCONSISTENT = 0.02
"""How far forces over fields may be from what the charges give, in e, before a remark says so."""


def read_field_runs(
    path: Path, *, keys: Mapping[str, str] | None = None, units: Mapping[str, str] | None = None
) -> list[Frame]:
    """Structures with the Born effective charges that their forces in fields give.

    Args:
        path: YAML file that names runs and fields. Files are looked for in its folder.
        keys: Key of a property in the files, by property name.
        units: Unit of a property in files that are no raw outputs, by property name.

    Returns:
        Frames, in the order of the files; with all labels of the run without a field, where there is one.

    Raises:
        ConfigError: The YAML file is wrong.
        DataError: A file that cannot be read, structures that are not the same in all fields, no forces, or fields that do not
            span all directions.
    """
    config = load_field_runs(path)
    runs = [_read_run(path.parent / run.file, keys, units or {}) for run in config.runs]
    for run, frames in zip(config.runs, runs, strict=True):
        if len(frames) != len(runs[0]):
            raise DataError(f"{path}: {run.file} has {len(frames)} structures and {config.runs[0].file} {len(runs[0])}.")
    return [_with_charges(config, one, path, number) for number, one in enumerate(zip(*runs, strict=True))]


def _read_run(path: Path, keys: Mapping[str, str] | None, units: Mapping[str, str]) -> list[Frame]:
    (place,) = expand(path)
    found = find_format(place)
    frames = [frame for frame, _ in file_frames(found, keys=keys)]
    frames = frames if found.output is not None else [in_units_of_the_package(frame, units) for frame in frames]
    for frame in frames:
        if "forces" not in frame.labels:
            raise DataError(f"{frame.source}: no forces, from which Born effective charges could follow; name their key.")
    return frames


def _with_charges(config: FieldRunsConfig, frames: tuple[Frame, ...], path: Path, number: int) -> Frame:
    source = f"{path}, frame {number}"
    for frame in frames[1:]:
        _check_same(frames[0], frame)
    size = 1.0 if config.unit != "a.u." else HARTREE / BOHR
    fields = np.array([run.field for run in config.runs]) * size
    pairs = [
        (one, other)
        for one, field in enumerate(fields)
        for other in range(one + 1, len(fields))
        if field.any() and np.allclose(field, -fields[other], rtol=1e-8, atol=0)
    ]
    directions = np.array([0.5 * (fields[one] - fields[other]) for one, other in pairs])
    forces = np.array([0.5 * (frames[one].labels["forces"] - frames[other].labels["forces"]) for one, other in pairs])
    base = next((frame for frame, field in zip(frames, fields, strict=True) if not field.any()), None)
    labels = dict(base.labels) if base is not None else {}
    labels[_Z] = _solve(directions, forces, frames[0], config.symmetry, source)
    return replace(base or frames[0], labels=labels, source=source)


def _check_same(one: Frame, other: Frame) -> None:
    alike = len(one) == len(other) and (one.atomic_numbers == other.atomic_numbers).all() and (one.pbc == other.pbc).all()
    if not alike or max(np.abs(one.positions - other.positions).max(), np.abs(one.cell - other.cell).max()) > _SAME:
        raise DataError(
            f"{other.source}: not the structure of {one.source}, in the order of its atoms; give runs of one structure."
        )


def _solve(fields: np.ndarray, forces: np.ndarray, frame: Frame, symmetry: bool, source: str) -> np.ndarray:
    """Z[atom, polarization, displacement] in e.

    Args:
        fields: Of shape (n_pairs, 3), in V/Å.
        forces: Their odd part, of shape (n_pairs, n_atoms, 3), in eV/Å.
        frame: The structure.
        symmetry: Whether to turn both by the space group.
        source: For messages.
    """
    if symmetry:
        fields, forces = _turned(fields, forces, frame, source)
    sizes = np.linalg.svd(fields, compute_uv=False)
    if len(sizes) < 3 or sizes[2] < _FLAT * sizes[0]:
        raise DataError(
            f"{source}: the fields span {int((sizes > _FLAT * sizes[0]).sum())} of 3 directions"
            f"{', with all that the symmetry of the structure adds' if symmetry else ''}. Add pairs of runs along the others"
            f"{'.' if symmetry else ', or, for a crystal, symmetry: true, which turns fields by its space group.'}"
        )
    charges: np.ndarray = np.einsum("ap,pjb->jab", np.linalg.pinv(fields), forces)
    left = np.abs(forces - np.einsum("pa,jab->pjb", fields, charges)).max(axis=(1, 2)) / np.linalg.norm(fields, axis=1)
    if left.max() > _INCONSISTENT:
        logger.warning(
            "%s: forces in different fields differ on the charges by up to %.3f e; a run may not be converged",
            source,
            left.max(),
        )
    return charges


def _turned(fields: np.ndarray, forces: np.ndarray, frame: Frame, source: str) -> tuple[np.ndarray, np.ndarray]:
    if not frame.pbc.all():
        raise DataError(f"{source}: symmetry: true is for crystals; add pairs of runs along the missing directions.")
    found = find_operations(replace(frame, labels={}).to_atoms(), f"{source}: symmetry is true")
    turned = np.zeros((len(found.rotations), *forces.shape))
    for number, (rotation, image) in enumerate(zip(found.rotations, found.images, strict=True)):
        turned[number][:, image] = forces @ rotation.T
    return np.einsum("oab,pb->opa", found.rotations, fields).reshape(-1, 3), turned.reshape(-1, *forces.shape[1:])
