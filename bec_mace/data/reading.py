"""Files to frames."""

from __future__ import annotations

import glob
import logging
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bec_mace import datasets
from bec_mace.data import formats
from bec_mace.data.formats.espresso import OTHER_KEY
from bec_mace.data.formats.xyz import parse_text, read_texts
from bec_mace.data.frames import Frame
from bec_mace.data.labels import check_index_order, check_names, file_keys
from bec_mace.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

logger = logging.getLogger(__name__)

Paths = str | Path | Sequence[str | Path]
Result = TypeVar("Result")
INCLUDED = "bec_mace:"
_CHARGES = "born_effective_charges"


def read_frames(
    paths: Paths,
    *,
    keys: Mapping[str, str] | None = None,
    index_order: str = "polarization_first",
    properties: Collection[str] | None = None,
    require: Collection[str] = (),
    allow_missing: Collection[str] = (),
) -> list[Frame]:
    """Read structures and labels from any files that ASE reads, and from raw outputs of VASP, ph.x, phonopy, Abinit and CP2K.

    Args:
        paths: A file, a glob, or a list of them; compressed files too. ``"bec_mace:NAME"`` is a data set that is
            included in the package.
        keys: Key of a property in the files, by property name. Replaces the known aliases.
        index_order: Order of the indices of Born effective charges in the files: ``"polarization_first"``,
            Z[polarization, displacement] (VASP, Abinit, phonopy), or ``"displacement_first"``, its transpose. Raw
            outputs (``bec_mace.data.formats``) have an order and no keys of their own: there neither this nor the key of
            Born effective charges counts.
        properties: Labels to read; all that are known when None. Those in ``require`` are always read.
        require: Properties that every frame must have.
        allow_missing: Properties of ``require`` that some frames, but not all, may lack.

    Returns:
        Frames in the order of the files. A glob is sorted by name. A label that nobody asks for and that has different values
        under two keys is left out, with a warning.

    Raises:
        DataError: A file that is missing or cannot be read, a frame that cannot be used, or a required property
            that is not there.
    """
    check_index_order(index_order)
    for option, names in (
        ("keys", keys or {}),
        ("properties", properties or ()),
        ("require", require),
        ("allow_missing", allow_missing),
    ):
        check_names(names, option)
    wanted = None if properties is None else [*dict.fromkeys([*properties, *require])]
    frames = []
    seen: set[str] = set()
    left_out: dict[str, str] = {}
    needed = {*(properties or ()), *require, *allow_missing}
    files = expand(paths)
    for path in files:
        file_format = formats.find_format(path)
        how: dict[str, Any] = {"keys": keys, "index_order": index_order, "properties": wanted, "left_out": left_out}
        for frame, held in file_frames(file_format, **how, needed=needed):
            seen |= held
            frames.append(frame)
    for message in left_out.values():
        logger.warning("%s It is left out of all frames where this is so.", message)
    check_complete(frames, require, allow_missing, keys=keys, seen=seen, files=files)
    return frames


def file_frames(
    file_format: formats.FoundFormat,
    *,
    keys: Mapping[str, str] | None = None,
    index_order: str = "polarization_first",
    properties: Collection[str] | None = None,
    left_out: dict[str, str] | None = None,
    needed: Collection[str] = (),
) -> Iterator[tuple[Frame, set[str]]]:
    """Yield the frames of one file, each with the keys that it has in the file.

    Args:
        file_format: The file.
        keys: As for :func:`read_frames`.
        index_order: As for :func:`read_frames`.
        properties: Labels to read; all that are known when None.
        left_out: As for :meth:`Frame.from_atoms`.
        needed: As for :meth:`Frame.from_atoms`.

    Raises:
        DataError: As :func:`read_frames`.
    """
    path, raw = file_format.path, file_format.output is not None
    own_keys = {name: key for name, key in (keys or {}).items() if not (raw and name == _CHARGES and key != OTHER_KEY)}
    order = "polarization_first" if raw else index_order
    for number, atoms in enumerate(read_atoms(file_format)):
        source = f"{path}, frame {number}"
        how: dict[str, Any] = {"keys": own_keys, "index_order": order, "properties": properties, "source": source}
        yield Frame.from_atoms(atoms, **how, left_out=left_out, needed=needed), file_keys(atoms)


def expand(paths: Paths) -> list[Path]:
    """The files that a path, glob or list stands for.

    Raises:
        DataError: Nothing is there, or a file is named twice.
    """
    files: list[Path] = []
    for entry in [paths] if isinstance(paths, str | os.PathLike) else paths:
        text = os.fspath(entry)
        if text.startswith(INCLUDED):
            files.append(datasets.path(text[len(INCLUDED) :]))
        elif Path(text).is_file():  # also where the name has a tilde or brackets
            files.append(Path(text))
        elif Path(os.path.expanduser(text)).is_file():
            files.append(Path(os.path.expanduser(text)))
        else:
            matches = sorted(Path(name) for name in glob.glob(os.path.expanduser(text), recursive=True))
            matches = [path for path in matches if path.is_file()]
            if not matches:
                raise DataError(f"{text}: no such file. Paths are relative to {Path.cwd()}.")
            files.extend(matches)
    if not files:
        raise DataError("No files of structures were named.")
    seen: set[Path] = set()
    for path in files:
        if path.resolve() in seen:
            raise DataError(f"{path}: named twice. Name every file once.")
        seen.add(path.resolve())
    return files


def check_complete(
    frames: Sequence[Frame],
    require: Collection[str],
    allow_missing: Collection[str] = (),
    *,
    keys: Mapping[str, str] | None = None,
    seen: Collection[str] = (),
    files: Collection[Path] = (),
) -> None:
    """Check that the frames hold the properties that they must.

    Args:
        frames: Frames to check.
        require: Properties that every frame must have.
        allow_missing: Properties of ``require`` that some, but not all, may lack.
        keys: The key that was asked for, by property name; for the message.
        seen: The keys that the files have; for the message.
        files: Where the frames are from; for the message.

    Raises:
        DataError: How many frames hold the property, and which is the first that does not.
    """
    for name in require:
        missing = [frame for frame in frames if name not in frame.labels]
        if not missing:
            continue
        n_labelled = len(frames) - len(missing)
        key = f" (key {keys[name]!r})" if keys and name in keys else ""
        count = f"{name}{key}: found in {n_labelled} of {len(frames)} frames"
        advice = formats.advice(files) if name == _CHARGES else ""
        if n_labelled == 0:
            held = f" The files hold: {', '.join(sorted(seen))}." if seen else ""
            raise DataError(f"{count} (first: {missing[0].source}).{held} {advice or 'Name its key under keys.'}")
        if name not in allow_missing:
            raise DataError(
                f"{count} (first missing: {missing[0].source}). Add {name} to allow_missing to leave those "
                f"frames out of its loss. {advice}".rstrip()
            )


def read_atoms(file_format: formats.FoundFormat) -> Iterator[Atoms]:
    """Yield the structures of one file; whatever goes wrong in ASE becomes a DataError.

    Extended XYZ and the trajectories of ASE are read one structure at a time, raw outputs of first-principles programs with
    their Born effective charges, other formats as ASE reads them.
    """
    number, path, output = 0, file_format.path, file_format.output
    if file_format.is_extxyz:
        for text, _ in read_frame_texts(path):
            yield parse(text, f"{path}, frame {number}")
            number += 1
    else:
        import ase.io

        reader = output.read(path) if output is not None else ase.io.iread(path, index=":", do_not_split_by_at_sign=True)
        while (atoms := _read(lambda: next(reader, None), f"{path}, frame {number}")) is not None:
            _check_occupancy(atoms, f"{path}, frame {number}")
            yield atoms
            number += 1
    if number == 0:
        raise DataError(f"{path}: no structures in this file.")


def _check_occupancy(atoms: Atoms, source: str) -> None:
    """Refuse crystals with sites that are partly empty or of several elements; ASE keeps one element of each."""
    for site, elements in (atoms.info.get("occupancy") or {}).items():
        whole = len(elements) == 1 and all(abs(share - 1.0) < 1e-3 for share in elements.values())
        if not whole:
            held = ", ".join(f"{symbol} {share:g}" for symbol, share in elements.items())
            raise DataError(
                f"{source}: site {site} is occupied in part ({held}), and a structure has whole atoms; make an ordered "
                "supercell of it first."
            )


def read_frame_texts(path: Path) -> Iterator[tuple[str, int]]:
    """Yield text and number of atoms of each frame of an extended XYZ file; a damaged file becomes a DataError."""
    texts = read_texts(path)
    number = 0
    while (text_and_size := _read(lambda: next(texts, None), f"{path}, frame {number}")) is not None:
        yield text_and_size
        number += 1


def parse(text: str, source: str) -> Atoms:
    """The structure in a text of :func:`read_frame_texts`.

    Raises:
        DataError: ASE cannot read it.
    """
    return _read(lambda: parse_text(text, source), source)


def _read(step: Callable[[], Result], source: str) -> Result:
    try:
        # ASE's remarks about a file are about its parser, not about what the user can change. They are silenced for
        # one step at a time: a generator that is left suspended must not hold the filter.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return step()
    except DataError:
        raise
    except Exception as error:  # ASE's readers raise whatever their parsing meets.
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise DataError(f"{source}: ASE cannot read it ({reason}). Check the file and its format.") from error
