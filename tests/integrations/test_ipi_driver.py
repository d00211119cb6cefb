"""The driver against a real i-PI, and against a server that says the wrong things."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import read, write
from click.testing import CliRunner

from bec_mace import BECCalculator
from bec_mace.cli.main import main
from bec_mace.config.driver import DriverConfig, load_driver_config
from bec_mace.config.dynamics import MDConfig
from bec_mace.data.formats import find_format
from bec_mace.data.reading import read_atoms
from bec_mace.dynamics import run
from bec_mace.dynamics.driven import drive
from bec_mace.errors import ConfigError, DynamicsError, ModelError
from bec_mace.integrations.ipi_driver import Answers, IPIDriver
from bec_mace.models import save_model
from bec_mace.testing.small_models import make_model as make_any_model
from bec_mace.units import BOHR, HARTREE
from tests.integrations import ipi_server

Z = "born_effective_charges"
FIELD = np.array([0.1, -0.2, 0.3])


@cache
def make_model(*heads):
    return make_any_model(heads or ("charge_transfer", "dipole", "energy"), num_interactions=1)


def make_crystal():
    """Six atoms of a triclinic cell, one outside of it, that move."""
    places = [[0.1, 0.1, 0.1], [0.3, 0.15, 0.1], [0.1, 0.4, 0.2], [0.55, 0.55, 0.5], [-0.25, 0.7, 0.8], [0.6, 0.2, 0.7]]
    cell = [[4.2, 0, 0], [0.7, 4.0, 0], [-0.5, 0.9, 4.4]]
    atoms = Atoms("OHHCOH", scaled_positions=places, cell=cell, pbc=True)
    atoms.set_momenta(0.3 * np.random.default_rng(3).normal(size=(6, 3)))
    return atoms


def make_molecule():
    return Atoms("OHHCO", [[0.0, 0.0, 0.0], [1.0, 0.2, 0.1], [-0.4, 1.0, 0.3], [0.3, -0.3, 1.1], [-0.8, -0.5, -0.6]])


@pytest.fixture
def start(tmp_path):
    """Start i-PI in the folder of the test; it is gone at the end."""
    processes = []

    def _start(*arguments, **options):
        processes.append(ipi_server.start(tmp_path, *arguments, **options))
        return processes[-1]

    yield _start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def address(tmp_path):
    """The name of a unix socket that nobody else has."""
    return f"bec_mace_{abs(hash(str(tmp_path))):x}"


def files_of(folder, atoms, **values):
    """A model, a structure and a configuration in a folder; the configuration."""
    save_model(make_model(), folder / "model")
    write(folder / "start.extxyz", atoms)
    given = {"structure": str(folder / "start.extxyz"), "potential": str(folder / "model"), "precision": "float64"}
    text = json.dumps({**given, "device": "cpu", "wait_seconds": 60.0, **values})
    (folder / "driver.yaml").write_text(text)
    return folder / "driver.yaml"


def test_dynamics_in_a_field_is_our_own(start, address, tmp_path):
    pytest.importorskip("ipi")
    atoms = make_crystal()
    config = files_of(tmp_path, atoms, address=address)
    motion = ipi_server.DRIVEN.format(time_step=0.25, field=ipi_server.numbers(FIELD * ipi_server.FIELD))
    server = start(atoms, motion, address)
    result = CliRunner().invoke(main, ["ipi", str(config)], catch_exceptions=False)
    assert result.exit_code == 0 and "i-PI is done: 101 evaluations" in result.stderr
    assert server.wait(60) == 0

    run(
        MDConfig(
            structure=str(tmp_path / "start.extxyz"),
            potential=str(tmp_path / "model"),
            ensemble="nve",
            time_step=0.25,
            steps=100,
            electric_field=FIELD.tolist(),
            precision="float64",
            device="cpu",
            output=tmp_path / "run",
            sampling={"currents": None, "trajectory": 100},
        )
    )
    ours = read(tmp_path / "run" / "trajectory.traj", "-1").positions
    theirs = ipi_server.last_positions(tmp_path)
    assert np.abs(ours - atoms.positions).max() > 1.0
    assert np.abs(theirs - ours).max() < 1e-6

    # What else came over the socket: the energy of the field is -E·P, the virial that of the stress.
    dipole = np.loadtxt(tmp_path / "out.dipole_0") * BOHR
    conserved = np.loadtxt(tmp_path / "out.energies")[:, 2]
    assert np.ptp(conserved) > 0.05 and np.ptp(conserved - dipole @ FIELD) < 4e-3
    atoms.calc = BECCalculator(make_model(), dtype="float64")
    virial = np.loadtxt(tmp_path / "out.virial")[0]  # xx, yy, zz, xy, xz, yz
    assert np.allclose(virial[[0, 1, 2, 5, 4, 3]], -atoms.get_stress(), atol=1e-8)
    # Trajectories of i-PI are structures to start from, with their cell.
    written = list(read_atoms(find_format(tmp_path / "out.pos_0.xyz")))
    assert len(written) == 101 and np.allclose(written[-1].cell.lengths(), atoms.cell.lengths(), atol=1e-5)


def test_replicas_in_turn_and_a_cell_that_changes(start, address, tmp_path):
    """Path integrals over TCP, at constant pressure, by two drivers."""
    pytest.importorskip("ipi")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    atoms = make_crystal()
    motion = ipi_server.BAROSTAT.format(time_step=0.2)
    pressure = "<pressure units='gigapascal'> 5 </pressure>"
    server = start(atoms, motion, "localhost", port, steps=4, beads=3, ensemble=pressure, thermal=True)
    config = load_driver_config(files_of(tmp_path, atoms, address="localhost", port=port))
    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(drive, [config, config]))
    assert sum(counts) == 3 * 5 and min(counts) > 0
    assert server.wait(60) == 0
    volumes = np.loadtxt(tmp_path / "out.virial")[:, 6]
    assert np.ptp(volumes) > 1e-3


@pytest.mark.parametrize("periodic", [True, False])
def test_answers_are_those_of_the_calculator(periodic):
    atoms = make_crystal() if periodic else make_molecule()
    answer = Answers(make_model(), None, atoms)(atoms.positions, atoms.cell.array)
    atoms.calc = BECCalculator(make_model(), dtype="float64", electric_field=FIELD, always=[Z])
    force = np.array(answer.extras["BEC"]) @ FIELD
    forces = atoms.get_forces()
    assert np.allclose(force.reshape(-1, 3), atoms.calc.results["field_forces"], atol=1e-12)
    assert np.allclose(answer.forces * HARTREE / BOHR, forces - atoms.calc.results["field_forces"], atol=1e-12)
    assert np.isclose(answer.energy * HARTREE, atoms.calc.results["base_energy"], atol=1e-12)
    assert np.isclose(-np.array(answer.extras["dipole"]) @ FIELD * BOHR, atoms.calc.results["field_energy"], atol=1e-12)
    charges = np.array(answer.extras["BEC"])
    assert charges.shape == (3 * len(atoms), 3)
    assert np.allclose(charges.reshape(-1, 3, 3).transpose(0, 2, 1), atoms.calc.results[Z], atol=1e-12)
    assert np.abs(charges.reshape(-1, 3, 3) - charges.reshape(-1, 3, 3).transpose(0, 2, 1)).max() > 0.05


@pytest.mark.parametrize("periodic", [True, False])
def test_the_virial_is_the_derivative_by_strain(periodic):
    atoms = make_crystal() if periodic else make_molecule()
    answers, strain = Answers(make_model(), None, atoms), np.zeros((3, 3))
    for a, b in ((0, 0), (0, 1), (2, 1)):
        energies = []
        for size in (1e-5, -1e-5):
            strain[:] = 0
            strain[a, b] = size
            deformed = np.eye(3) + strain
            energies.append(answers(atoms.positions @ deformed.T, atoms.cell.array @ deformed.T).energy)
        slope = (energies[0] - energies[1]) / 2e-5
        assert np.isclose(-answers(atoms.positions, atoms.cell.array).virial[a, b], slope, rtol=1e-6, atol=1e-8)


def test_other_potentials_other_extras_and_no_virial_of_slabs():
    atoms = make_crystal()
    base = BECCalculator(make_model("energy"), dtype="float64")
    answer = Answers(make_model("charge_transfer", "polarizability"), base, atoms, ["polarizability", "charges"])(
        atoms.positions, atoms.cell.array
    )
    atoms.calc = BECCalculator(make_model("energy"), dtype="float64")
    assert np.isclose(answer.energy * HARTREE, atoms.get_potential_energy())
    stress = -answer.virial * HARTREE / atoms.get_volume()
    assert np.allclose(stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], atoms.get_stress())
    atoms.calc = BECCalculator(make_model("charge_transfer", "polarizability"), dtype="float64")
    assert answer.extras.keys() == {"polarizability", "charges"}
    assert np.allclose(answer.extras["polarizability"], atoms.calc.get_property("polarizability", atoms) / BOHR**3)
    atoms.pbc = [True, True, False]
    slab = Answers(make_model(), None, atoms)(atoms.positions, atoms.cell.array)
    assert np.isnan(slab.virial).all() and np.isfinite(slab.forces).all()
    copper = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]])
    alone = Answers(None, EMT(), copper, [])(copper.positions, copper.cell.array)
    assert alone.extras == {} and alone.to_bytes().endswith(np.int32(0).tobytes())


@pytest.mark.parametrize(
    ("model", "properties", "message"),
    [
        (make_model("monopole", "energy"), ["dipole"], "gives no dipole of this structure, which is periodic"),
        (make_model("energy"), [Z], "gives no born_effective_charges of this structure"),
        (None, [Z], "no model that gives born_effective_charges; name one under charges"),
        (make_model(), ["forces"], "forces in eV/Å cannot be sent"),
    ],
)
def test_what_cannot_be_sent_is_refused(model, properties, message):
    with pytest.raises(DynamicsError, match=message):
        Answers(model, None, make_crystal(), properties)


def test_configurations(tmp_path):
    config = files_of(tmp_path, make_crystal(), address="water")
    assert load_driver_config(config).properties == [Z, "dipole"]
    for mistake, message in (
        ("properties=[energy]", "energy is always sent"),
        ("properties=[polarization]", "write dipole"),
        ("properties=[dipol]", "dipole"),
        ("port=0", "port"),
        ("adress=x", "did you mean 'address'"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_driver_config(config, [mistake])
    make = {"structure": str(tmp_path / "start.extxyz"), "address": "x", "device": "cpu", "wait_seconds": 0.0}
    save_model(make_model("charge_transfer"), tmp_path / "charges")
    save_model(make_model("energy"), tmp_path / "energy")
    for potential, charges, kind, message in (
        ("charges", None, DynamicsError, "has no energy head"),
        ("model", "energy", ModelError, "gives no Z"),
        ("energy", "charges", DynamicsError, "nobody listens"),
    ):
        chosen = None if charges is None else str(tmp_path / charges)
        with pytest.raises(kind, match=message):
            drive(DriverConfig(potential=str(tmp_path / potential), charges=chosen, **make))


@pytest.fixture
def server(tmp_path):
    """A server that sends some bytes and hangs up."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(tmp_path / "socket"))
    listening.listen(1)
    threads = []

    def serve(data):
        def run():
            connection = listening.accept()[0]
            with connection:
                connection.sendall(data)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return IPIDriver("socket", None, f"{tmp_path}/", 0.0)

    yield serve
    for thread in threads:
        thread.join(10)
    listening.close()


def posdata(atoms):
    cell = atoms.cell.array.T.tobytes()
    return b"POSDATA     " + cell + cell + np.int32(len(atoms)).tobytes() + atoms.positions.tobytes()


def init(text):
    return b"INIT        " + np.int32([4, len(text)]).tobytes() + text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "gone after 0 evaluations without saying EXIT"),
        (b"STATUS      STA", "gone after 0 evaluations"),
        (b"HELLO       ", "sent 'HELLO', which is no message"),
        (b"GETFORCE    ", "sent 'GETFORCE', which is no message that is due"),
        (init(b"batch_size:4"), "set batch_size to 1"),
        (posdata(make_molecule()[:3]), "i-PI sends 3 atoms, and the structure of the driver has 5"),
    ],
)
def test_a_server_that_says_something_else(server, data, message):
    driver = server(data)
    with pytest.raises(DynamicsError, match=message):
        driver.serve(Answers(make_model(), None, make_molecule()))


def test_a_server_that_is_done(server):
    assert server(init(b"") + b"EXIT        ").serve(Answers(make_model(), None, make_molecule())) == 0


def test_nobody_listens(tmp_path):
    with pytest.raises(DynamicsError, match="nobody listens there after 0.3 s .*; start i-PI, with this address"):
        IPIDriver("none", None, f"{tmp_path}/", 0.3)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(tmp_path / "left"))
    with pytest.raises(DynamicsError, match="remove that file, which an i-PI that was killed has left"):
        IPIDriver("left", None, f"{tmp_path}/", 0.0)
    with pytest.raises(DynamicsError, match="cannot be connected to"):
        IPIDriver("x" * 200, None, f"{tmp_path}/", 0.0)
