"""The model of torch-sim against torch-sim's own check, the calculator, and our dynamics."""

import sys
import warnings
from functools import cache
from importlib import import_module

import ase.units
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

from bec_mace import BECCalculator
from bec_mace.config.dynamics import MDConfig
from bec_mace.config.model import ModelConfig
from bec_mace.data import Statistics
from bec_mace.dynamics import run
from bec_mace.errors import FieldError, ModelError
from bec_mace.models import build_model, save_model
from bec_mace.units import COULOMB_CONSTANT

FIELD = [0.1, -0.2, 0.3]
STEPS, STEPS_OF_ALL = 100, 12
CONSERVING = ("charge_transfer", "dipole", "energy")


@pytest.fixture(scope="module")
def ts():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks of other packages while they load
        module = pytest.importorskip("torch_sim")
        pytest.importorskip("torch_sim.models.polarization")
    return module


@cache
def make_model(*heads, elements=(1, 6, 8)):
    torch.manual_seed(1)
    config = ModelConfig(
        r_max=3.0, channels=4, max_l=1, num_interactions=1, num_radial=4, radial_mlp=[8], readout_mlp=[4], heads=list(heads)
    )
    charges = {z: charge for z, charge in ((1, 0.4), (6, 0.2), (8, -0.9)) if z in elements}
    statistics = Statistics(5.0, charges, dict.fromkeys(elements, -2.0), 1.0)
    model = build_model(config, list(elements), statistics, torch.float64)
    with torch.no_grad():
        for name, head in model.heads.items():
            for parameter in head.parameters():
                parameter.mul_(1.0 if name == "energy" else 3.0)
    return model


def make_model_of_torch_sim(model, **options):
    from bec_mace.integrations.torch_sim import BECModel

    return BECModel(model, **options)


def make_ice(seed=0, speed=0.2):
    """24 atoms of eight molecules in a triclinic cell, some outside of it, that move."""
    random = np.random.default_rng(seed)
    molecule = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    atoms = Atoms(cell=[[6.4, 0, 0], [0.4, 6.2, 0], [-0.3, 0.5, 6.6]], pbc=True)
    for place in np.ndindex(2, 2, 2):
        copy = molecule.copy()
        copy.rotate(random.uniform(0, 180), random.normal(size=3))
        copy.positions += (np.array(place) + 0.1) / 2 @ atoms.cell.array
        atoms += copy
    atoms.positions += 0.02 * random.normal(size=(24, 3))
    atoms.positions[3:6] -= atoms.cell[0] + 2 * atoms.cell[1]
    atoms.set_momenta(speed * random.normal(size=(24, 3)))
    return atoms


def state_of(ts, *systems):
    return ts.io.atoms_to_state(list(systems), torch.device("cpu"), torch.float64)


def test_it_is_what_torch_sim_wants(ts):
    from torch_sim.models.interface import validate_model_outputs

    model = make_model_of_torch_sim(make_model(*CONSERVING, "polarizability", elements=(1, 6, 12, 14, 26)))
    validate_model_outputs(model, torch.device("cpu"), torch.float64)


@pytest.mark.parametrize("field", [None, FIELD])
def test_outputs_are_those_of_the_calculator(ts, field):
    model = make_model(*CONSERVING, "polarizability")
    systems = [make_ice(0), make_ice(1)[:9]]
    output = make_model_of_torch_sim(model, electric_field=field)(state_of(ts, *systems))
    first = 0
    for number, atoms in enumerate(systems):
        atoms.calc = BECCalculator(model, dtype="float64", electric_field=field)
        mine = slice(first, first := first + len(atoms))
        assert np.isclose(output["energy"][number], atoms.get_potential_energy(), atol=1e-10)
        assert np.allclose(output["forces"][mine], atoms.get_forces(), atol=1e-12)
        tensors = atoms.calc.get_property("born_effective_charges", atoms)
        assert np.allclose(output["born_effective_charges"][mine], tensors, atol=1e-12)
        alpha = atoms.calc.get_property("polarizability", atoms)
        assert np.allclose(output["polarizability"][number] * COULOMB_CONSTANT, alpha, atol=1e-12)
        if field is None:
            assert np.allclose(output["stress"][number], atoms.get_stress(voigt=False), atol=1e-12)
        else:
            assert np.isclose(-output["total_polarization"][number].numpy() @ field, atoms.calc.results["field_energy"])
    assert ("stress" in output) == (field is None)


def test_dynamics_in_a_field_is_our_own_and_copies_conserve_as_one_does(ts, tmp_path):
    from torch_sim.integrators.nve import nve_init, nve_step

    from bec_mace.integrations.torch_sim import currents

    atoms = make_ice()
    # The field from the states: none in the last copy but one, twice as much in the last.
    strengths = np.ones(32)
    strengths[-2:] = 0.0, 2.0
    copies = state_of(ts, *[atoms] * 32)
    copies._system_extras["external_E_field"] = torch.tensor(strengths[:, None] * FIELD)
    batch = make_model_of_torch_sim(make_model(*CONSERVING), electric_field="state")
    single = make_model_of_torch_sim(make_model(*CONSERVING), electric_field=FIELD)
    many, one = nve_init(copies, batch, kT=0.0), nve_init(state_of(ts, atoms), single, kT=0.0)
    energies = []
    for state in (many, one):
        state.momenta = torch.tensor(atoms.get_momenta()).repeat(state.n_systems, 1)
    for step in range(STEPS):
        one = nve_step(one, single, dt=0.25 * ase.units.fs)
        if step < STEPS_OF_ALL:
            many = nve_step(many, batch, dt=0.25 * ase.units.fs)
            energies.append(torch.cat([state.energy + _kinetic(state) for state in (many, one)]))
        if step == STEPS_OF_ALL - 1:
            positions = many.positions.reshape(32, 24, 3)
            assert (positions[:30] - one.positions).abs().max() < 1e-10
            assert all((positions[other] - one.positions).abs().max() > 1e-5 for other in (30, 31))
            assert torch.allclose(currents(many)[:30], currents(one), atol=1e-10)
    drift = (torch.stack(energies) - energies[0]).abs().amax(dim=0)
    assert (drift[:30] - drift[32]).abs().max() < 1e-10
    assert drift.max().item() / 24 < 1e-4

    save_model(make_model(*CONSERVING), tmp_path / "model")
    write(tmp_path / "start.extxyz", atoms)
    run(
        MDConfig(
            structure=str(tmp_path / "start.extxyz"),
            potential=str(tmp_path / "model"),
            ensemble="nve",
            time_step=0.25,
            steps=STEPS,
            electric_field=FIELD,
            precision="float64",
            device="cpu",
            output=tmp_path / "run",
            sampling={"currents": STEPS, "trajectory": STEPS},
        )
    )
    ours = read(tmp_path / "run" / "trajectory.traj", "-1").positions
    assert np.abs(ours - atoms.positions).max() > 0.5
    assert np.abs(one.positions.numpy() - ours).max() < 1e-6
    from bec_mace.spectra import Currents

    flows = Currents.read(tmp_path / "run").current[-1].sum(axis=0)
    assert np.allclose(currents(one)[0], flows, atol=1e-6 * np.abs(flows).max())


def _kinetic(state):
    energies = (state.momenta**2).sum(dim=1) / (2 * state.masses)
    return energies.new_zeros(state.n_systems).index_add(0, state.system_idx, energies)


def test_their_model_of_the_field_takes_our_outputs(ts):
    from torch_sim.models.interface import SerialSumModel
    from torch_sim.models.polarization import UniformPolarizationModel

    atoms, field = make_ice(), torch.tensor([FIELD], dtype=torch.float64)
    model = make_model(*CONSERVING, "polarizability")
    state = state_of(ts, atoms)
    state._system_extras["external_E_field"] = field
    theirs = SerialSumModel(make_model_of_torch_sim(model), UniformPolarizationModel())(state)
    own = make_model_of_torch_sim(model, electric_field=FIELD)(state)
    quadratic = 0.5 * (field @ own["polarizability"][0] @ field.T).item()
    assert np.allclose(theirs["forces"], own["forces"], atol=1e-12)
    assert np.isclose(theirs["energy"].item(), own["energy"].item() - quadratic, atol=1e-10) and abs(quadratic) > 1e-4


def test_a_field_that_changes_and_systems_that_are_not_periodic(ts):
    model = make_model_of_torch_sim(make_model(*CONSERVING), electric_field=lambda time_fs: [0.0, 0.0, 0.1 * time_fs])
    water = Atoms("OHH", [[3.0, 0, 0], [3.96, 0, 0], [2.76, 0.93, 0]])
    state = state_of(ts, water)
    before = model(state)["forces"]
    model.time_fs = 2.0
    output = model(state)
    field = torch.tensor([0.0, 0.0, 0.2], dtype=torch.float64)
    change = torch.einsum("a,nab->nb", field, output["born_effective_charges"])
    assert torch.allclose(output["forces"] - before, change, atol=1e-12) and change.abs().max() > 1e-3
    assert make_model_of_torch_sim(make_model("energy"))(state)["stress"].isnan().all()


def test_what_is_refused(ts):
    from bec_mace.integrations.torch_sim import currents

    ice = state_of(ts, make_ice())
    with pytest.raises(ModelError, match="no stress in an electric field"):
        make_model_of_torch_sim(make_model(*CONSERVING), electric_field=FIELD, compute_stress=True)
    with pytest.raises(ModelError, match="the model has no energy head"):
        make_model_of_torch_sim(make_model("charge_transfer"))
    with pytest.raises(FieldError, match="expected three numbers, a function or 'state', got 'stat'"):
        make_model_of_torch_sim(make_model(*CONSERVING), electric_field="stat")
    with pytest.raises(FieldError, match=r"must carry external_E_field, finite and of shape \(1, 3\) in V/Å, got nothing"):
        make_model_of_torch_sim(make_model(*CONSERVING), electric_field="state")(ice)
    with pytest.raises(ModelError, match="a field needs a polarization"):
        make_model_of_torch_sim(make_model("monopole", "energy"), electric_field=FIELD)(ice)
    with pytest.raises(ModelError, match="the state has no momenta and no born_effective_charges"):
        currents(ice)
    with pytest.raises(ModelError, match="the model has not seen Ar"):
        make_model_of_torch_sim(make_model(*CONSERVING))(state_of(ts, bulk("Ar", "fcc", 5.3)))


def test_without_torch_sim_the_extra_is_named(monkeypatch):
    for name in ("torch_sim", "torch_sim.models", "torch_sim.models.interface"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "bec_mace.integrations.torch_sim", raising=False)
    with pytest.raises(ModelError, match=r"pip install 'bec_mace\[torch-sim\]'"):
        import_module("bec_mace.integrations.torch_sim")
