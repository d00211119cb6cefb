import sys

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from bec_mace import BECCalculator
from bec_mace.config.dynamics import FieldConfig
from bec_mace.devices import find_device
from bec_mace.dynamics.potential import Potential, build_field, build_potential
from bec_mace.errors import DynamicsError, FieldError, ModelError
from bec_mace.outside import import_object

from .springs import Springs

Z = "born_effective_charges"


def atoms():
    return Atoms("OHH", positions=[[0.1, 0, 0], [0.9, 0.3, 0.2], [-0.4, 0.9, -0.1]])


def test_time_goes_with_the_positions(charges_model):
    """At old positions the forces stay those of the old time, though time has moved on."""
    field = {"pulse": {"amplitude": [0.5, 0.1, -0.3], "center_fs": 1.0, "width_fs": 1.0}}
    pulse = build_field(FieldConfig(**field))
    inner = BECCalculator(charges_model, base=Springs(), electric_field=pulse, dtype="float64")
    potential, structure = Potential(inner), atoms()
    structure.calc, potential.time_fs = potential, 1.0
    before = structure.get_forces()
    potential.time_fs, potential.also = 2.0, ("born_effective_charges",)
    np.testing.assert_array_equal(structure.get_forces(), before)
    assert potential.evaluations == 1 and Z not in potential.results
    structure.positions[0, 0] += 0.01
    after = structure.get_forces()
    assert potential.evaluations == 2 and potential.results[Z].shape == (3, 3, 3)
    reference = BECCalculator(charges_model, base=Springs(), electric_field=pulse(2.0), dtype="float64")
    np.testing.assert_allclose(after, reference.get_property("forces", structure), atol=1e-12)
    np.testing.assert_array_equal(potential.field(), pulse(2.0))


def test_what_is_built(md_config, energy_model, charges_model):
    alone = build_potential(md_config(potential=energy_model, precision="float64"))
    assert alone.inner.base is None and alone.has_charges
    beside = build_potential(md_config(potential=energy_model, charges=charges_model))
    assert beside.inner.base.model.heads and beside.has_charges
    other = build_potential(
        md_config(
            potential={"calculator": "tests.dynamics.springs:Springs", "arguments": {"stiffness": 3.5}}, electric_field=None
        )
    )
    assert isinstance(other.inner, Springs) and other.inner.stiffness == 3.5 and not other.has_charges
    assert other.state() == {} and other.field().tolist() == [0, 0, 0]


def test_free_energy_where_the_calculator_has_one():
    class Smeared(Springs):
        implemented_properties = ["energy", "free_energy", "forces"]

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            self.results["free_energy"] = self.results["energy"] - 0.25

    for kind, shift in ((Springs, 0.0), (Smeared, -0.25)):
        structure = atoms()
        structure.calc = Potential(kind())
        energy = structure.get_potential_energy()
        assert structure.calc.conserved_potential() == pytest.approx(energy + shift)


def test_energies_that_are_not_finite():
    class Broken(Calculator):
        implemented_properties = ["energy", "forces"]

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            self.results = {"energy": np.nan, "forces": np.zeros((3, 3))}

    structure = atoms()
    structure.calc = Potential(Broken())
    with pytest.raises(DynamicsError, match="the energy is not finite"):
        structure.get_forces()


def test_models_that_do_not_fit(md_config, charges_model, tmp_path):
    from .conftest import random_model

    with pytest.raises(DynamicsError, match=r"has no energy head \(charge_transfer, dipole\); give it as `charges`"):
        build_potential(md_config(potential=charges_model))
    only_energy = random_model(tmp_path, ["energy"])
    with pytest.raises(DynamicsError, match="electric_field: the model .* gives no Z.*name a model under charges"):
        build_potential(md_config(potential=only_energy, electric_field=[0.0, 0.0, 1.0]))
    with pytest.raises(ModelError, match=r"charges: the model .* gives no Z\* \(heads: energy\)"):
        build_potential(md_config(charges=only_energy))
    with pytest.raises(ModelError, match="there is no model 'wather'"):
        build_potential(md_config(potential="wather"))


@pytest.mark.parametrize(
    ("potential", "message"),
    [
        ({"calculator": "no_such_module:Thing"}, "potential.calculator: cannot import no_such_module .*; install it, or start"),
        ({"calculator": "ase.units:Thing"}, "potential.calculator: the module ase.units has no Thing"),
        ({"calculator": "ase.units:kB"}, "potential.calculator: ase.units:kB cannot be called"),
        ({"calculator": "tests.dynamics.springs:NoCalculator"}, "gives no ASE calculator but NoCalculator"),
        (
            {"calculator": "tests.dynamics.springs:Springs", "arguments": {"k": 1}},
            r"Springs\(k=...\) failed \(TypeError.*check",
        ),
        ({"mace": "none.model"}, "potential.mace: none.model: no such file; paths are relative to"),
    ],
)
def test_calculators_that_cannot_be_made(md_config, potential, message):
    with pytest.raises(DynamicsError, match=message):
        build_potential(md_config(potential=potential))


def test_a_mace_file_is_asked_for_in_its_own_way(md_config, tmp_path, monkeypatch):
    asked = {}

    class MACECalculator(Springs):
        def __init__(self, **arguments):
            super().__init__()
            asked.update(arguments)

    monkeypatch.setitem(sys.modules, "mace.calculators", type(sys)("mace.calculators"))
    monkeypatch.setattr(sys.modules["mace.calculators"], "MACECalculator", MACECalculator, raising=False)
    (tmp_path / "mine.model").write_text("")
    potential = {"mace": str(tmp_path / "mine.model"), "arguments": {"head": "pbe"}}
    assert isinstance(build_potential(md_config(potential=potential)).inner, MACECalculator)
    assert asked == {"model_paths": str(tmp_path / "mine.model"), "device": "cpu", "default_dtype": "float64", "head": "pbe"}


def test_fields():
    ramp = build_field(FieldConfig(function="tests.dynamics.springs:ramp"))
    np.testing.assert_allclose(ramp(2.0), [0, 0.002, -0.001])
    sinusoid = build_field(FieldConfig(sinusoid={"amplitude": [0, 0, 2], "frequency_cm": 100.0, "phase": 0.3}))
    np.testing.assert_allclose(sinusoid(0.0), [0, 0, 2 * np.sin(0.3)])
    assert build_field(None) is None
    np.testing.assert_array_equal(build_field(FieldConfig(constant=[1, 2, 3]))(5.0), [1, 2, 3])
    # A class is called without arguments, and what it makes is the field.
    assert callable(build_field(FieldConfig(function="tests.dynamics.test_potential:Grows")))
    with pytest.raises(FieldError, match="must be three numbers"):
        build_field(FieldConfig(function="math:cos"))(1.0)


class Grows:
    def __call__(self, time_fs):
        return [time_fs, 0.0, 0.0]


def test_modules_of_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "mine_for_md.py").write_text("def wave(t):\n    return [0, 0, t]\n")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    assert import_object("mine_for_md:wave", "electric_field", DynamicsError)(3) == [0, 0, 3]
    assert sys.path == path


def test_devices():
    assert find_device("cpu", DynamicsError) == "cpu" and find_device("auto", DynamicsError) in ("cpu", "cuda")
    with pytest.raises(DynamicsError, match="device cuda:77: torch cannot use it"):
        find_device("cuda:77", DynamicsError)
