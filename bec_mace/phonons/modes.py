r"""Modes at Gamma, what charges they carry, and how far the macroscopic field of a longitudinal wave lifts them.

The dynamical matrix at Gamma without macroscopic field, :math:`D`, has eigenvalues :math:`\omega_m^2` and orthonormal real
eigenvectors :math:`e_m`; displacements are :math:`U_{m,j} = e_{m,j} / \sqrt{M_j}`, so that
:math:`\sum_j M_j |U_{m,j}|^2 = 1`. With

.. math:: p_{m,a} = \sum_{j,b} Z_{j,a,b} U_{m,jb}    \qquad (e / \sqrt{u})                                          (1)

the mode effective charge and the oscillator strength are

.. math:: \tilde Z_{m,a} = p_{m,a} / \left( \sum_j |U_{m,j}|^2 \right)^{1/2}   \qquad (e)                           (2)
.. math:: S_{m,ab} = p_{m,a} p_{m,b}                                           \qquad (e^2 / u),                    (3)

and the dielectric tensor of electrons and nuclei at rest is, with the volume V of the primitive cell,

.. math:: \epsilon_{ab}(0) = \epsilon^\infty_{ab} + \frac{4 \pi k_e}{V} \sum_m \frac{S_{m,ab}}{\omega_m^2} .        (4)

A wavevector that goes to zero along the unit vector n adds the macroscopic field,

.. math:: D(n) = D + \frac{4 \pi k_e}{V}
          \frac{(n \cdot Z_i)_b (n \cdot Z_j)_c}{n \cdot \epsilon^\infty \cdot n} \frac{1}{\sqrt{M_i M_j}},         (5)

whose eigenvalues are the squares of transverse and longitudinal frequencies. phonopy evaluates it. Between the modes of D it is

.. math:: \omega_m^2 \delta_{mm'} + \frac{4 \pi k_e}{V} \frac{(n \cdot p_m)(n \cdot p_{m'})}{n \cdot \epsilon^\infty \cdot n},

diagonal but for one product: so between two transverse modes that are polar along n there is one longitudinal mode. This is how
they are paired here.

Sources: X. Gonze and C. Lee, Phys. Rev. B 55, 10355 (1997) for (1) to (5), of which (2) and (3) are its Eqs. (53) and (54);
R. M. Pick, M. H. Cohen, R. M. Martin, Phys. Rev. B 1, 910 (1970) for (5); F. Gervais and B. Piriou, J. Phys. C 7, 2374 (1974)
for the order of transverse and longitudinal modes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bec_mace.errors import PhononError
from bec_mace.phonons.born import BornCharges
from bec_mace.phonons.lattice import THZ, dynamical_matrix
from bec_mace.phonons.scattering import activities, along_modes
from bec_mace.units import COULOMB_CONSTANT

DEGENERATE = 1e-3
"""Frequencies closer than this are one level, in THz."""
_POLAR = 1e-4
"""A mode with less than this share of the largest |p|^2 is not polar."""
_SAME_CHARGES = 0.05
"""How far frequencies may be off because of modes that are hardly polar, in THz."""


@dataclass(frozen=True)
class LongitudinalModes:
    """What a wavevector that goes to zero along one direction does.

    Attributes:
        direction: Unit vector, Cartesian, of shape (3,).
        frequencies: All of them along this direction, of shape (n_modes,), in THz.
        pairs: Transverse and longitudinal frequency of each polar level, of shape (n_levels, 2), in THz.
    """

    direction: np.ndarray
    frequencies: np.ndarray
    pairs: np.ndarray


@dataclass(frozen=True)
class GammaModes:
    """Modes of a primitive cell at Gamma without macroscopic field, optical and acoustic, in the order of frequencies.

    Attributes:
        eigenvalues: Of shape (n_modes,), in eV/(Å^2 u).
        eigenvectors: Of shape (n_modes, n_atoms, 3), orthonormal.
        masses: Of shape (n_atoms,), in u.
        volume: In Å^3.
        symbols: Of the atoms.
        born: Z* and dielectric tensor; None without.
        labels: Irreducible representation of each mode; None where phonopy has none.
        raman_tensors: Derivatives of the polarizability, of shape (n_atoms, 3, 3, 3), in Å^2; None without.
    """

    eigenvalues: np.ndarray
    eigenvectors: np.ndarray
    masses: np.ndarray
    volume: float
    symbols: tuple[str, ...]
    born: BornCharges | None
    labels: tuple[str | None, ...]
    raman_tensors: np.ndarray | None = None

    @cached_property
    def frequencies(self) -> np.ndarray:
        """Of shape (n_modes,), in THz; imaginary ones are negative."""
        return to_frequencies(self.eigenvalues)

    @cached_property
    def is_acoustic(self) -> np.ndarray:
        """The three modes that move all atoms alike, as booleans of shape (n_modes,)."""
        together = np.sqrt(self.masses / self.masses.sum())
        share = np.sum(np.einsum("j,mjb->mb", together, self.eigenvectors) ** 2, axis=1)
        found = np.zeros(len(share), dtype=bool)
        found[np.argsort(-share, kind="stable")[:3]] = True
        return found

    @cached_property
    def levels(self) -> list[list[int]]:
        """Numbers of the modes of each level; acoustic modes are one of their own."""
        levels: list[list[int]] = []
        for mode in range(len(self.frequencies)):
            last = levels[-1] if levels else None
            if (
                last is not None
                and self.is_acoustic[mode] == self.is_acoustic[last[-1]]
                and (self.is_acoustic[mode] or self.frequencies[mode] - self.frequencies[last[-1]] < DEGENERATE)
            ):
                last.append(mode)
            else:
                levels.append([mode])
        return levels

    @cached_property
    def displacements(self) -> np.ndarray:
        """U of shape (n_modes, n_atoms, 3), in u^(-1/2)."""
        return np.asarray(self.eigenvectors / np.sqrt(self.masses)[None, :, None])

    @cached_property
    def polarities(self) -> np.ndarray:
        """P of equation (1), of shape (n_modes, 3), in e/u^(1/2).

        Raises:
            PhononError: There is no Z*.
        """
        return np.asarray(np.einsum("jab,mjb->ma", self.known_born.charges, self.displacements))

    @cached_property
    def charges(self) -> np.ndarray:
        """Mode effective charges, of shape (n_modes, 3), in e; the direction is that of p, the sign of a mode is arbitrary."""
        norms = np.sqrt(np.sum(self.displacements**2, axis=(1, 2)))
        return np.asarray(self.polarities / norms[:, None])

    @cached_property
    def oscillator_strengths(self) -> np.ndarray:
        """Of shape (n_modes, 3, 3), in e^2/u."""
        return np.asarray(np.einsum("ma,mb->mab", self.polarities, self.polarities))

    @cached_property
    def is_polar(self) -> np.ndarray:
        """Optical modes that light excites, as booleans of shape (n_modes,)."""
        strength = np.sum(self.polarities**2, axis=1)
        return np.asarray(~self.is_acoustic & (strength > _POLAR * strength.max(initial=1e-12)))

    @cached_property
    def raman_derivatives(self) -> np.ndarray | None:
        """Of the polarizability along the modes, of shape (n_modes, 3, 3), in Å^2/u^(1/2); None without Raman tensors."""
        return None if self.raman_tensors is None else along_modes(self.raman_tensors, self.displacements)

    @cached_property
    def raman(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Raman activities in Å^4/u and depolarization ratios of all modes, of a powder; None without Raman tensors."""
        return None if self.raman_derivatives is None else activities(self.raman_derivatives)

    @property
    def field_factor(self) -> float:
        """4 pi k_e / V, which makes eV/(Å^2 u) of an oscillator strength."""
        return 4.0 * np.pi * COULOMB_CONSTANT / self.volume

    @cached_property
    def contributions(self) -> np.ndarray:
        """Of each mode to the static dielectric tensor, of shape (n_modes, 3, 3); zero for those that are not polar."""
        shares = np.zeros_like(self.oscillator_strengths)
        polar = self.is_polar
        shares[polar] = self.field_factor * self.oscillator_strengths[polar] / self.eigenvalues[polar, None, None]
        return shares

    @cached_property
    def epsilon_static(self) -> np.ndarray | None:
        """Equation (4), of shape (3, 3); None where a polar mode is unstable, for then there is no static response."""
        if (self.eigenvalues[self.is_polar] <= 0).any():
            return None
        return np.asarray(self.known_born.epsilon + self.contributions.sum(axis=0))

    @property
    def known_born(self) -> BornCharges:
        """Z* and dielectric tensor.

        Raises:
            PhononError: There are none.
        """
        if self.born is None:
            raise PhononError("there is no Z*, so modes have no charges; name a model or a BORN file under charges")
        return self.born


def to_frequencies(eigenvalues: np.ndarray) -> np.ndarray:
    """Frequencies in THz of eigenvalues in eV/(Å^2 u); imaginary ones are negative."""
    return np.asarray(np.sign(eigenvalues) * np.sqrt(np.abs(eigenvalues)) * THZ)


def gamma_modes(phonon: Any, born: BornCharges | None = None, raman_tensors: np.ndarray | None = None) -> GammaModes:
    """Modes at Gamma without macroscopic field.

    Args:
        phonon: With force constants.
        born: Z* and dielectric tensor of its primitive cell.
        raman_tensors: Of its atoms, of shape (n_atoms, 3, 3, 3), in Å^2.
    """
    eigenvalues, vectors = np.linalg.eigh(dynamical_matrix(phonon))
    n_atoms = len(phonon.primitive)
    return GammaModes(
        eigenvalues=eigenvalues,
        eigenvectors=vectors.T.reshape(-1, n_atoms, 3),
        masses=np.array(phonon.primitive.masses),
        volume=float(abs(np.linalg.det(phonon.primitive.cell))),
        symbols=tuple(phonon.primitive.symbols),
        born=born,
        labels=_irreps(phonon, 3 * n_atoms),
        raman_tensors=raman_tensors,
    )


def longitudinal_modes(phonon: Any, modes: GammaModes, direction: np.ndarray) -> LongitudinalModes:
    """Frequencies for a wavevector that goes to zero along a direction, and its pairs of transverse and longitudinal modes.

    Args:
        phonon: With force constants.
        modes: From :func:`gamma_modes`, with Z*.
        direction: Cartesian, of shape (3,), of any length.

    Raises:
        PhononError: There is no Z*, or phonopy has another.
    """
    unit = np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
    if phonon.nac_params is None:
        modes.known_born.apply(phonon)
    frequencies = to_frequencies(np.linalg.eigvalsh(dynamical_matrix(phonon, unit)))
    squares, strengths = _polar_levels(modes, unit)
    screened = modes.field_factor / float(unit @ modes.known_born.epsilon @ unit)
    coupling = np.sqrt(np.outer(strengths, strengths))
    lifted = to_frequencies(np.linalg.eigvalsh(np.diag(squares) + screened * coupling)) if len(squares) else np.zeros(0)
    # The frequencies are phonopy's; the small matrix only tells which of them are longitudinal.
    nearest = np.array([frequencies[np.argmin(np.abs(frequencies - one))] for one in lifted])
    difference = float(np.abs(nearest - lifted).max(initial=0.0))
    if difference > _SAME_CHARGES:
        raise PhononError(
            f"phonopy's longitudinal frequencies are {difference:.2g} THz off those of these charges; it has others: "
            "apply the charges to it, born.apply(phonon)"
        )
    pairs = np.array([to_frequencies(squares), nearest]).T.reshape(-1, 2)
    return LongitudinalModes(direction=unit, frequencies=frequencies, pairs=pairs)


def _polar_levels(modes: GammaModes, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean eigenvalue and (n.p)^2 of the levels that are polar along n."""
    along = (modes.polarities @ unit) ** 2
    least = _POLAR * np.sum(modes.polarities**2, axis=1).max(initial=1e-12)
    levels = [level for level in modes.levels if not modes.is_acoustic[level[0]] and along[level].sum() > least]
    squares = np.array([modes.eigenvalues[level].mean() for level in levels])
    return squares, np.array([along[level].sum() for level in levels])


def _irreps(phonon: Any, n_modes: int) -> tuple[str | None, ...]:
    """Labels by phonopy, which has tables of most point groups; None where it has none."""
    labels: list[str | None] = [None] * n_modes
    run = getattr(phonon, "run_irreps", None) or phonon.set_irreps
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run([0, 0, 0], degeneracy_tolerance=DEGENERATE)
    except Exception:  # of a cell that is not primitive, or a point group without a table: it raises several kinds
        return tuple(labels)
    for modes, label in zip(phonon.irreps.band_indices, getattr(phonon.irreps, "_ir_labels", None) or [], strict=False):
        for mode in modes:
            labels[mode] = label
    return tuple(labels)
