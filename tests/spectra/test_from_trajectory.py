import ase.io
import ase.units
import numpy as np
import pytest
import torch
from ase import Atoms

from bec_mace.config.model import ModelConfig
from bec_mace.data import Frame, Statistics
from bec_mace.errors import DataError, SpectrumError
from bec_mace.models import build_model
from bec_mace.predict import predict
from bec_mace.spectra import currents_from_trajectory, infrared_spectrum
from bec_mace.spectra.currents import DIFFERENCES, VELOCITIES
from bec_mace.spectra.from_trajectory import frame_interval
from tests.spectra.oscillators import CM, FS

SYMBOLS = ["O", "H", "H", "O", "H"]
CELL = np.array([[7.0, 0.0, 0.0], [1.5, 6.0, 0.0], [-1.0, 0.7, 6.5]])
POSITIONS = np.array([[0.1, 0.2, 0.3], [0.9, 0.6, 0.3], [-0.3, 1.1, 0.2], [3.2, 3.0, 3.1], [4.0, 3.6, 2.8]])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(2)
    config = ModelConfig(
        r_max=3.0, channels=4, max_l=1, num_radial=4, radial_mlp=[8], readout_mlp=[4], heads=["monopole", "dipole"]
    )
    statistics = Statistics(avg_num_neighbors=3.0, reference_charges={1: 0.4, 8: -0.8}, reference_energies={}, rms_forces=None)
    return build_model(config, [1, 8], statistics, torch.float64)


def moving(n=7, interval=0.5, wrap=True, velocities=True):
    """Frames that swing and drift through the boundary, with their velocities in Å/fs."""
    generator = np.random.default_rng(3)
    amplitude, phase = 0.1 * generator.normal(size=(5, 3)), generator.uniform(0, 6, size=(5, 3))
    drift, omega = np.array([0.03, -0.02, 0.01]), CM * FS * 1500.0
    frames, speeds = [], []
    for row in range(n):
        angle = omega * interval * row + phase
        atoms = Atoms(SYMBOLS, positions=POSITIONS + amplitude * np.sin(angle) + drift * interval * row, cell=CELL, pbc=True)
        speeds.append(omega * amplitude * np.cos(angle) + drift)
        if velocities:
            atoms.set_velocities(speeds[-1] / ase.units.fs)
        if wrap:
            atoms.wrap()
        frames.append(atoms)
    return frames, np.array(speeds)


def expected_current(model, frames, speeds):
    charges = [result["born_effective_charges"] for result in predict(model, map(Frame.from_atoms, frames))]
    products = np.array([[z @ v for z, v in zip(*row, strict=True)] for row in zip(charges, speeds, strict=True)])
    return np.stack([products[:, [1, 2, 4]].sum(axis=1), products[:, [0, 3]].sum(axis=1)], axis=1)


@pytest.mark.parametrize(("name", "tolerance"), [("run.traj", 1e-10), ("run.extxyz", 1e-5)])
def test_current_of_positions_velocities_and_a_model(model, tmp_path, name, tolerance):
    frames, speeds = moving()
    ase.io.write(tmp_path / name, frames)
    run = currents_from_trajectory(tmp_path / name, model, 0.5, batch_size=3)
    assert run.elements == ("H", "O") and run.counts == (3, 2) and run.method == VELOCITIES
    np.testing.assert_allclose(run.current, expected_current(model, frames, speeds), atol=tolerance)
    np.testing.assert_allclose(run.time, 0.5 * np.arange(7))
    np.testing.assert_allclose(run.volume, np.linalg.det(CELL), rtol=1e-6)
    # The cell drifts, so all 15 degrees of freedom count, as in ASE.
    np.testing.assert_allclose(run.temperature, [atoms.get_temperature() for atoms in frames], rtol=1e-4)


def test_a_cell_at_rest_has_three_degrees_of_freedom_less(model, tmp_path):
    frames, _ = moving(2)
    for atoms in frames:
        momenta = atoms.get_momenta()
        atoms.set_momenta(momenta - atoms.get_masses()[:, None] * momenta.sum(axis=0) / atoms.get_masses().sum())
    ase.io.write(tmp_path / "run.traj", frames)
    run = currents_from_trajectory(tmp_path / "run.traj", model, 0.5)
    np.testing.assert_allclose(run.temperature, [atoms.get_temperature() * 15 / 12 for atoms in frames], rtol=1e-6)


def test_positions_alone_give_central_differences_of_nearest_images(model, tmp_path):
    interval = 0.5
    # Two periods, and the two frames that are lost.
    frames, speeds = moving(91, interval, velocities=False)
    with_velocities, _ = moving(91, interval)
    ase.io.write(tmp_path / "run.traj", frames)
    run = currents_from_trajectory(tmp_path / "run.traj", model, interval)
    assert run.method == DIFFERENCES and len(run) == 89
    np.testing.assert_allclose(run.time, interval * np.arange(1, 90))
    drift = np.array([0.03, -0.02, 0.01])
    # Central differences damp the swing and leave the drift as it is.
    damping = np.sinc(CM * FS * 1500.0 * interval / np.pi)
    differences = (speeds - drift) * damping + drift
    np.testing.assert_allclose(run.current, expected_current(model, frames[1:-1], differences[1:-1]), atol=1e-10)
    # The temperature of the central differences would be too low by 0.66 % of the swing's share.
    exact = np.mean([atoms.get_temperature() for atoms in with_velocities][1:-1])
    assert damping**2 == pytest.approx(0.9934, abs=1e-4)
    assert np.mean(run.temperature) == pytest.approx(exact, rel=2e-4)


def test_velocity_columns_need_a_unit(model, tmp_path):
    frames, speeds = moving(3, velocities=False)
    for atoms, speed in zip(frames, speeds, strict=True):
        atoms.set_array("vel", 1000.0 * speed)
    ase.io.write(tmp_path / "run.extxyz", frames, columns=["symbols", "positions", "vel"])
    with pytest.raises(SpectrumError, match="has a column 'vel' whose unit is not known; name it with --velocity-unit"):
        currents_from_trajectory(tmp_path / "run.extxyz", model, 0.5)
    with pytest.raises(SpectrumError, match="velocity unit 'm/s' is not known; choose one of ase, A/fs, A/ps, au"):
        currents_from_trajectory(tmp_path / "run.extxyz", model, 0.5, velocity_unit="m/s")
    run = currents_from_trajectory(tmp_path / "run.extxyz", model, 0.5, velocity_unit="A/ps")
    np.testing.assert_allclose(run.current, expected_current(model, frames, speeds), atol=1e-5)


def test_a_unit_of_velocities_that_are_known_is_refused(model, tmp_path):
    frames, _ = moving(3)
    ase.io.write(tmp_path / "run.traj", frames)
    with pytest.raises(SpectrumError, match="unit of its velocities is known, .* leave --velocity-unit out"):
        currents_from_trajectory(tmp_path / "run.traj", model, 0.5, velocity_unit="A/ps")


def test_dumps_of_lammps_in_the_units_that_are_named(model, tmp_path):
    """The same motion as LAMMPS writes it in its styles real and metal, with and without saying so."""
    frames, speeds = moving(3)
    for style, unit, said in (("real", "A/fs", False), ("metal", "A/ps", False), ("metal", None, True)):
        path = tmp_path / f"{style}{said}.dump"
        scale = 1000.0 if style == "metal" else 1.0
        with path.open("w") as file:
            for step, (atoms, speed) in enumerate(zip(frames, speeds, strict=True)):
                head = "ITEM: UNITS\nmetal\n" if said and step == 0 else ""
                file.write(f"{head}ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n{len(atoms)}\n")
                file.write("ITEM: BOX BOUNDS abc origin pp pp pp\n")
                file.write("".join(f"{' '.join(map(repr, vector))} 0\n" for vector in atoms.cell.array.tolist()))
                file.write("ITEM: ATOMS id element xu yu zu vx vy vz\n")
                for i, symbol in enumerate(atoms.symbols):
                    numbers = [*atoms.positions[i].tolist(), *(speed[i] * scale).tolist()]
                    file.write(f"{i + 1} {symbol} {' '.join(map(repr, numbers))}\n")
        run = currents_from_trajectory(path, model, 0.5, velocity_unit=unit)
        np.testing.assert_allclose(run.current, expected_current(model, frames, speeds), atol=1e-9)


def test_the_atomic_unit_of_velocity_is_a_bohr_in_24_attoseconds():
    from bec_mace.spectra.from_trajectory import VELOCITY_UNITS

    assert VELOCITY_UNITS["au"] == pytest.approx(0.529177210903 / 0.024188843265857, rel=1e-9)


def test_frame_interval(tmp_path):
    frames, _ = moving(3)
    ase.io.write(tmp_path / "plain.traj", frames)
    assert frame_interval(tmp_path / "plain.traj", 2.0) == 2.0
    with pytest.raises(SpectrumError, match="does not say how far apart its frames are; give the time step"):
        frame_interval(tmp_path / "plain.traj")
    with pytest.raises(SpectrumError, match="must be a positive number of fs, got -1"):
        frame_interval(tmp_path / "plain.traj", -1.0)
    for number, atoms in enumerate(frames):
        atoms.info["time_fs"] = 7.0 + 2.5 * number
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(SpectrumError, match="the folder has no trajectory.traj or trajectory.extxyz"):
        frame_interval(run)
    ase.io.write(run / "trajectory.traj", frames)
    assert frame_interval(run) == 2.5
    with pytest.raises(SpectrumError, match="its frames are 2.5 fs apart, not 1; leave the time step out"):
        frame_interval(run, 1.0)


def test_trajectories_that_cannot_be_used(model, tmp_path):
    def compute(frames):
        ase.io.write(tmp_path / "run.traj", frames)
        return currents_from_trajectory(tmp_path / "run.traj", model, 0.5)

    frames, _ = moving(4, velocities=False)
    with pytest.raises(SpectrumError, match="has too few frames; central differences of positions need three"):
        compute(frames[:2])
    with pytest.raises(SpectrumError, match="frame 2: has other atoms, or another order of atoms, than frame 0"):
        compute([frames[0], frames[1], frames[2][::-1], frames[3]])
    still, _ = moving(2)
    for atoms in still:
        atoms.set_momenta(np.zeros((5, 3)))
    with pytest.raises(SpectrumError, match="all velocities are zero; remove them"):
        compute(still)
    swinging, _ = moving(3)
    with pytest.raises(SpectrumError, match="frame 1: velocities are missing or not finite"):
        compute([swinging[0], frames[1]])
    with pytest.raises(SpectrumError, match="no such file"):
        currents_from_trajectory(tmp_path / "none.traj", model, 0.5)
    (tmp_path / "bad.extxyz").write_text("no\n")
    with pytest.raises(DataError, match="ASE cannot read it"):
        currents_from_trajectory(tmp_path / "bad.extxyz", model, 0.5)


def test_a_molecule_has_no_volume_until_it_is_given(model, tmp_path):
    frames, _ = moving(400, wrap=False)
    for atoms in frames:
        atoms.pbc = False
    ase.io.write(tmp_path / "run.traj", frames)
    run = currents_from_trajectory(tmp_path / "run.traj", model, 0.5)
    with pytest.raises(SpectrumError, match=r"the volume is not known; give it \(volume of the settings, --volume\)"):
        infrared_spectrum(run, resolution=400.0)
    spectrum = infrared_spectrum(run, resolution=400.0, volume=1000.0, spacing=10.0)
    assert spectrum.wavenumber[np.argmax(spectrum.n_alpha)] == pytest.approx(1500.0, abs=60.0)
