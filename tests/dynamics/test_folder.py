import numpy as np
import pytest
from ase import Atoms

from bec_mace.dynamics import run
from bec_mace.dynamics.folder import MDFolder, State, read_state, write_state
from bec_mace.dynamics.trajectory_file import TrajectoryFile, cut_trajectory
from bec_mace.errors import DynamicsError


def atoms():
    return Atoms(
        "HO", positions=[[0, 0, 1 / 3], [0, 0, 1.1]], momenta=[[1e-17, 2, 3], [0.1, 0.2, 0.3]], cell=[3, 4, 5], pbc=True
    )


def test_a_state_is_kept_to_the_last_bit(tmp_path):
    rng = np.random.default_rng(3)
    rng.standard_normal(7)
    values = {"step": 12, "rng": rng.bit_generator.state, "chain": np.array([0.1, 1 / 3, 1e-300]), "work": 1 / 7}
    write_state(tmp_path / "state.npz", State.of(atoms(), values))
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]
    state = read_state(tmp_path / "state.npz")
    assert np.array_equal(state.values.pop("chain"), values.pop("chain")) and state.values == values
    assert np.array_equal(state.atoms().positions, atoms().positions)
    assert np.array_equal(state.atoms().get_momenta(), atoms().get_momenta())
    other = np.random.default_rng()
    other.bit_generator.state = state.values["rng"]
    assert other.standard_normal() == rng.standard_normal()


def test_states_that_are_none(tmp_path):
    path = tmp_path / "state.npz"
    with pytest.raises(DynamicsError, match="the folder has no state.npz"):
        read_state(path)
    path.write_text("nonsense")
    with pytest.raises(DynamicsError, match="cannot be read as the state of a run; restore it, or choose another `output`"):
        read_state(path)
    write_state(path, State.of(atoms(), {"version": 7}))
    with pytest.raises(DynamicsError, match="has format version 7, this bec_mace reads 1; update"):
        read_state(path)


def fill(path, count):
    file = TrajectoryFile(path)
    for step in range(count):
        moved = atoms()
        moved.positions += step
        file.append(moved, -float(step), {"forces": np.full((2, 3), float(step))}, step, 0.5 * step)
    file.close()


@pytest.mark.parametrize("count", [3, 45])
def test_a_trajectory_is_cut_and_goes_on(tmp_path, count):
    """45 frames need a second table of offsets in ASE's format."""
    import ase.io

    path = tmp_path / "a.traj"
    fill(path, count)
    file = TrajectoryFile(path, keep=2)
    assert len(file) == 2
    for step in range(2, count + 2):
        moved = atoms()
        moved.positions += 10 * step
        file.append(moved, 5.0, {"forces": np.zeros((2, 3))}, step, 0.5 * step)
    file.close()
    images = ase.io.read(path, ":")
    assert [image.info["step"] for image in images] == list(range(count + 2))
    assert images[1].positions[0, 0] == 1 and images[2].positions[0, 0] == 20 and images[-1].get_potential_energy() == 5.0
    np.testing.assert_array_equal(images[1].get_momenta(), atoms().get_momenta())


def test_trajectories_that_cannot_be_cut(tmp_path):
    path = tmp_path / "a.traj"
    fill(path, 2)
    with pytest.raises(DynamicsError, match="has 2 frames, the state of the run has 3; put the complete file back"):
        cut_trajectory(path, 3)
    path.write_text("nonsense that is long enough to be looked at")
    with pytest.raises(DynamicsError, match="cannot be read as a trajectory"):
        cut_trajectory(path, 1)


def test_a_run_is_not_overwritten(md_config, tmp_path):
    config = md_config(steps=2)
    run(config)
    with pytest.raises(DynamicsError, match=r"holds a run already \(config.yaml\); go on with it \(--resume\)"):
        run(config)
    (tmp_path / "file").write_text("")
    with pytest.raises(DynamicsError, match="the output folder is a file"):
        MDFolder(tmp_path / "file").check_free(False)


def test_another_run_is_not_resumed(md_config):
    run(md_config(steps=2))
    with pytest.raises(DynamicsError, match="cannot resume, the run in this folder had time_step = 0.5, now it is 0.25"):
        run(md_config(steps=4, time_step=0.25), resume=True)
    with pytest.raises(DynamicsError, match="had sampling.currents = 2, now it is 3"):
        run(md_config(steps=4, sampling={"currents": 3, "trajectory": 1}), resume=True)
    with pytest.raises(DynamicsError, match="had charges = None, now it is water"):
        run(md_config(steps=4, electric_field=[0.0, 0.0, 1.0], charges="water"), resume=True)
    longer = md_config(steps=4, sampling={"currents": 2, "trajectory": 1, "log": 1}, limits={"temperature": 1e4})
    assert run(longer, resume=True).steps == 4
