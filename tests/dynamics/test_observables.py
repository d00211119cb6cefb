import numpy as np
import pytest
from ase import Atoms, units

from bec_mace.dynamics.observables import CurrentByElement, Drift, closest_pair
from bec_mace.errors import DataError


def test_current_by_element(rng):
    numbers = np.array([8, 1, 1, 8, 6])
    tensors, velocities = rng.normal(size=(5, 3, 3)), rng.normal(size=(5, 3))
    current = CurrentByElement(numbers)
    assert current.symbols == ["H", "C", "O"] and current.counts == [2, 1, 2]
    expected = [sum(tensors[j] @ velocities[j] for j in atoms) * units.fs for atoms in ([1, 2], [4], [0, 3])]
    np.testing.assert_allclose(current(tensors, velocities), expected, rtol=1e-12)


def test_drift_is_the_slope_of_a_line(rng):
    times = np.linspace(0, 3, 40)
    values = -1.5e5 + 2e-4 * times + 1e-5 * rng.normal(size=40)
    drift = Drift()
    assert np.isnan(drift.slope)
    for time, value in zip(times[:20], values[:20], strict=True):
        drift.add(time, value)
    again = Drift()
    again.set_state(drift.state())
    for time, value in zip(times[20:], values[20:], strict=True):
        drift.add(time, value)
        again.add(time, value)
    assert drift.slope == pytest.approx(np.polyfit(times, values - values[0], 1)[0], rel=1e-6)
    assert drift.mean == pytest.approx(values.mean(), rel=1e-12)
    assert drift.largest == pytest.approx(np.abs(values - values[0]).max(), rel=1e-9)
    assert (again.slope, again.mean, again.count) == (drift.slope, drift.mean, 40)


def test_closest_pair():
    atoms = Atoms("HOH", positions=[[0.1, 0, 0], [2.0, 2.0, 2.0], [3.9, 0.0, 0.0]], cell=[4, 4, 4], pbc=True)
    distance, one, other = closest_pair(atoms)
    assert distance == pytest.approx(0.2) and {one, other} == {0, 2}
    atoms.pbc = False
    assert closest_pair(atoms)[0] == np.inf
    atoms.positions[1] = atoms.positions[0]
    with pytest.raises(DataError, match="at the same place"):
        closest_pair(atoms)
