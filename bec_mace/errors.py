"""Errors that a user can act on.

Every mistake a user can make ends as one of these. The message says what is wrong, where (file, frame, key), and
what to do. The command line prints the message and exits with status 2.
"""

from __future__ import annotations


class BecMaceError(Exception):
    """A mistake in the input of bec_mace, described for the person who made it."""


class ConfigError(BecMaceError):
    """The configuration file cannot be used."""


class SettingError(ConfigError):
    """A value of a configuration that does not fit the data, found when they were read.

    Args:
        location: Keys that lead to the value; the command line finds its line by them.
        message: What is wrong and what to do.
    """

    def __init__(self, location: tuple[str, ...], message: str) -> None:
        super().__init__(f"{'.'.join(location)}: {message}")
        self.location = location


class DataError(BecMaceError):
    """A file of structures or labels cannot be used."""


class ModelError(BecMaceError):
    """A model cannot be built, saved, loaded, or used on this structure."""


class TrainingError(BecMaceError):
    """A training run cannot start or cannot go on."""


class SpectrumError(BecMaceError):
    """A spectrum cannot be computed from these currents or trajectories."""


class FieldError(BecMaceError):
    """An electric field cannot be used."""


class FileError(BecMaceError):
    """A file cannot be written, or must not be."""


class DynamicsError(BecMaceError):
    """A molecular dynamics run cannot start, cannot be resumed, or has gone wrong."""


class PhononError(BecMaceError):
    """Phonons or molecular vibrations cannot be computed."""
