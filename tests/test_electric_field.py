import numpy as np
import pytest

from bec_mace.electric_field import ConstantField, FieldWork, GaussianPulse, SinusoidField, as_field
from bec_mace.errors import FieldError

CELL = np.array([[4.0, 0.0, 0.0], [0.7, 4.2, 0.0], [0.3, -0.5, 4.5]])
HERE = {"numbers": np.array([8, 1]), "cell": CELL, "pbc": np.array([True, True, True])}


def test_a_constant_field():
    field = as_field([0.1, -0.2, 0.3])
    assert field == ConstantField((0.1, -0.2, 0.3))
    value = field(5.0)
    value[:] = 9.0
    np.testing.assert_array_equal(field(7.0), [0.1, -0.2, 0.3])


def test_an_oscillating_field():
    field = SinusoidField([0.1, -0.2, 0.3], frequency_cm=1000.0)
    period = 33.35640951981521  # 1 / (1000 cm^-1 c), in fs
    np.testing.assert_allclose(field(0.0), 0.0, atol=1e-17)
    np.testing.assert_allclose(field(period / 4), [0.1, -0.2, 0.3], rtol=1e-12)
    np.testing.assert_allclose(field(period / 12 + 3 * period), [0.05, -0.1, 0.15], rtol=1e-10)
    np.testing.assert_allclose(SinusoidField((1, 0, 0), 1000.0, phase=np.pi / 6)(0.0), [0.5, 0, 0], rtol=1e-12)


def test_a_pulse():
    pulse = GaussianPulse([0.0, 0.4, -0.1], center_fs=50.0, width_fs=10.0)
    np.testing.assert_allclose(pulse(50.0), [0.0, 0.4, -0.1])
    np.testing.assert_allclose(pulse(60.0), np.exp(-0.5) * np.array([0.0, 0.4, -0.1]), rtol=1e-14)
    np.testing.assert_allclose(pulse(60.0), pulse(40.0), rtol=1e-14)
    carried = GaussianPulse([0.0, 0.4, -0.1], 50.0, 10.0, frequency_cm=2000.0, phase=0.3)
    turn = 2 * np.pi * 2000.0 * 29979245800.0 * 10e-15
    np.testing.assert_allclose(carried(60.0), pulse(60.0) * np.cos(turn + 0.3), rtol=1e-10)


def test_any_function_is_a_field():
    held = np.array([0.0, 0.1, 0.0])
    field = as_field(lambda time: held * time)
    np.testing.assert_allclose(field(3.0), [0.0, 0.3, 0.0])
    assert as_field(lambda time: held)(0.0) is not held
    assert as_field(lambda time: [0, 1, 2])(0.0).dtype == np.float64
    assert as_field(None) is None
    pulse = GaussianPulse([0.0, 0.4, -0.1], 50.0, 10.0)
    assert as_field(pulse) is pulse


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: as_field([0.1, 0.2]), r"vector must be three numbers in V/Å, got shape \(2,\)"),
        (lambda: as_field("x"), "vector must be three numbers in V/Å, got 'x'"),
        (lambda: as_field(0.1), r"got shape \(\)"),
        (lambda: as_field([0.1, 0.2, np.nan]), "vector must be finite"),
        (lambda: as_field(lambda time: [time, 0.0])(2.0), r"value at 2 fs must be three numbers in V/Å, got shape \(2,\)"),
        (lambda: as_field(lambda time: [np.inf, 0.0, 0.0])(2.5), "value at 2.5 fs must be finite"),
        (lambda: SinusoidField([0, 0, 1], "fast"), "frequency_cm must be a finite number, got 'fast'"),
        (lambda: SinusoidField([0, 0, 1], 1000.0, phase=np.nan), "phase must be a finite number"),
        (lambda: SinusoidField([[0, 0, 1]], 1000.0), "amplitude must be three numbers"),
        (lambda: GaussianPulse([0, 0, 1], 0.0, 0.0), "width_fs must be positive, got 0"),
        (lambda: GaussianPulse([0, 0, 1], True, 1.0), "center_fs must be a finite number, got True"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(FieldError, match=message):
        make()


def walk(work, path, forces):
    for positions, force in zip(path, forces, strict=True):
        work.advance(np.array(force), np.array(positions), **HERE)


def test_work_is_the_trapezoid_sum():
    work = FieldWork()
    path = [[[0, 0, 0], [1, 0, 0]], [[0.1, 0, 0], [1, 0.2, 0]], [[0.1, 0, 0.3], [1, 0.2, 0]]]
    forces = [[[1, 0, 0], [0, 2, 0]], [[3, 0, 5], [0, 4, 1]], [[0, 0, 7], [0, 0, 0]]]
    walk(work, path, forces)
    assert work.work == pytest.approx(0.5 * (4 * 0.1 + 6 * 0.2) + 0.5 * 12 * 0.3)
    work.reset()
    assert work.work == 0.0
    walk(work, path[2:], forces[2:])
    assert work.work == 0.0


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True)])
def test_wrapping_atoms_is_no_work(pbc):
    works = []
    for shift in ([0, 0, 0], [2, 0, -1]):
        work = FieldWork()
        place = {**HERE, "pbc": np.array(pbc)}
        work.advance(np.ones((2, 3)), np.zeros((2, 3)), **place)
        moved = np.array([[0.1, 0.2, -0.1], [0.0, 0.3, 0.0]])
        moved[1] += shift @ CELL
        work.advance(np.ones((2, 3)), moved, **place)
        works.append(work.work)
    assert works == pytest.approx([0.5, 0.5])


def test_other_atoms_begin_a_new_path():
    for change in ({"cell": CELL * 1.01}, {"numbers": np.array([1, 8])}, {"pbc": np.array([True, False, True])}):
        work = FieldWork()
        work.advance(np.ones((2, 3)), np.zeros((2, 3)), **HERE)
        work.advance(np.ones((2, 3)), np.full((2, 3), 0.1), **HERE)
        assert work.work == pytest.approx(0.6)
        work.advance(np.ones((2, 3)), np.full((2, 3), 0.3), **{**HERE, **change})
        assert work.work == 0.0


def test_the_path_goes_on_from_its_state():
    path = np.random.default_rng(1).normal(scale=0.1, size=(5, 2, 3))
    whole, first, second = FieldWork(), FieldWork(), FieldWork()
    walk(whole, path, 2 * path)
    walk(first, path[:3], 2 * path[:3])
    state = first.state()
    walk(first, path[3:], 2 * path[3:])  # The state is a copy.
    second.set_state(state)
    walk(second, path[3:], 2 * path[3:])
    assert second.work == whole.work == first.work
    fresh = FieldWork()
    fresh.set_state(FieldWork().state())
    assert fresh.work == 0.0
    del state["path_forces"]
    with pytest.raises(FieldError, match="state of the field's work is incomplete"):
        second.set_state(state)
    with pytest.raises(FieldError, match="state of the field's work is incomplete"):
        second.set_state({})


def test_nothing_is_shared():
    work = FieldWork()
    forces, positions = np.ones((2, 3)), np.zeros((2, 3))
    work.advance(forces, positions, **HERE)
    forces[:], positions[:] = 9.0, 9.0
    state = work.state()
    state["path_positions"][:] = 7.0
    work.advance(np.ones((2, 3)), np.full((2, 3), 0.1), **HERE)
    assert work.work == pytest.approx(0.6)
