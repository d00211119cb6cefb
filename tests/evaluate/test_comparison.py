from dataclasses import replace

import numpy as np
import pytest
import torch

from bec_mace.config.model import ModelConfig
from bec_mace.data import Frame, build_graph, compute_statistics, read_frames
from bec_mace.errors import DataError
from bec_mace.evaluate.comparison import Comparison, compare, evaluate, format_table, not_judged, summarize_comparison
from bec_mace.models import build_model

Z = "born_effective_charges"


def make_model(frames, heads):
    torch.manual_seed(0)
    config = ModelConfig(
        r_max=3.0, channels=4, max_l=1, num_interactions=1, num_radial=4, radial_mlp=[8], readout_mlp=[4], heads=heads
    )
    elements = sorted({int(z) for frame in frames for z in frame.atomic_numbers})
    return build_model(config, elements, compute_statistics(frames, 3.0), torch.float64)


@pytest.fixture(scope="module")
def frames(files):
    return read_frames(files / "water_clusters_rpbe_d3.extxyz")


@pytest.fixture(scope="module")
def model(frames):
    return make_model(frames, ["monopole", "dipole", "energy"])


def test_numbers_are_those_of_a_plain_loop(model, frames):
    found = evaluate(model, frames, batch_size=3)
    errors, energies, dipoles = [], [], []
    for frame in frames:
        out = model(build_graph(frame, model.r_max), properties=(Z, "energy", "dipole"))
        errors.append((out[Z].numpy() - frame.labels[Z]).ravel())
        energies.append((out["energy"].item() - frame.labels["energy"]) / len(frame))
        dipoles.append((out["dipole"][0].numpy() - frame.labels["dipole"]) / len(frame) ** 0.5)
    error = np.concatenate(errors)
    assert found["n_frames"] == found[Z]["n_frames"] == len(frames)
    assert found[Z]["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-9)
    assert found[Z]["mae"] == pytest.approx(np.mean(np.abs(error)), rel=1e-9)
    assert found["energy"]["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(energies))), rel=1e-9)
    assert found["dipole"]["mae"] == pytest.approx(np.mean(np.abs(dipoles)), rel=1e-9)
    assert found["forces"]["unit"] == "eV/Å"
    assert sum(row["share"] for row in found["head_shares"].values()) == pytest.approx(1.0)


def test_batches_change_nothing(model, frames):
    one, many = evaluate(model, frames, batch_size=1), evaluate(model, frames)
    assert one[Z]["rmse"] == pytest.approx(many[Z]["rmse"], rel=1e-12)
    assert one["head_shares"]["dipole"]["rms"] == pytest.approx(many["head_shares"]["dipole"]["rms"], rel=1e-12)


def test_frames_without_labels_count_only_for_what_they_hold(model, frames):
    bare = Frame(
        frames[0].atomic_numbers,
        frames[0].positions + 0.01,
        frames[0].cell,
        frames[0].pbc,
        {"energy": frames[0].labels["energy"]},
    )
    found = evaluate(model, [bare, *frames[1:4]])
    assert (found["n_frames"], found[Z]["n_frames"]) == (4, 3)
    assert found[Z]["rmse"] == pytest.approx(evaluate(model, frames[1:4])[Z]["rmse"], rel=1e-9)
    bare_error = abs(evaluate(model, [bare, frames[1]])["energy"]["mae"] - found["energy"]["mae"])
    assert bare_error > 0.0, "its energy counts"


def stripped(frames, kept):
    return [
        Frame(f.atomic_numbers, f.positions, f.cell, f.pbc, {name: f.labels[name] for name in kept}, f.source) for f in frames
    ]


def test_frames_without_born_effective_charges_are_judged_by_what_they_hold(model, frames):
    found, whole = evaluate(model, stripped(frames, {"energy", "forces", "dipole"})), evaluate(model, frames)
    assert Z not in found and "head_shares" not in found
    assert {name: found[name] for name in ("energy", "forces", "dipole")} == {
        name: {**whole[name], "rmse": pytest.approx(whole[name]["rmse"]), "mae": pytest.approx(whole[name]["mae"])}
        for name in ("energy", "forces", "dipole")
    }
    text = format_table(found)
    assert "Born" not in text and "eV/Å" in text and "e Å/sqrt(atom)" in text


def test_what_is_not_judged_is_said(model, frames):
    some = stripped(frames[:2], {"energy"}) + [replace(frames[2], labels={"polarizability": np.eye(3)})]
    first, second = not_judged(some, model.provides)
    assert first.startswith(f"no frame holds {Z} (known keys: REF_becs,")
    assert second == "polarizability is in 1 of 3 frames, but the model does not give it"
    wrong = replace(frames[0], labels={Z: frames[0].labels[Z], "stress": np.zeros((3, 3))}, source="a.xyz, frame 0")
    assert not_judged([wrong, *stripped(frames[1:2], {"energy"})], model.provides) == [
        "stress is left out of 1 frames (first: a.xyz, frame 0): stress needs a cell that is periodic in three directions"
    ]


def test_frames_of_which_nothing_can_be_judged_are_refused(model, frames):
    with pytest.raises(DataError, match="there are no frames"):
        evaluate(model, [])
    with pytest.raises(DataError, match=r"found in 0 of 2 frames \(first: .*frame 0\); or name the key .* REF_becs, "):
        evaluate(model, stripped(frames[:2], ()))
    dielectric = [replace(frame, labels={"polarizability": np.eye(3)}) for frame in frames[:2]]
    with pytest.raises(DataError, match="which hold polarizability; name a model that gives it, or name the key"):
        evaluate(model, dielectric)
    with pytest.raises(DataError, match="found in 0 of 1 frames"):  # a label that means nothing there
        evaluate(model, [replace(frames[0], labels={"stress": np.zeros((3, 3))})])


def test_dipoles_of_periodic_cells_and_stress_of_molecules_are_left_out(files, frames):
    quartz = read_frames(files / "quartz_pbe.extxyz")[:1]
    labels = {**quartz[0].labels, "dipole": np.zeros(3), "stress": np.zeros((3, 3))}
    periodic = Frame(quartz[0].atomic_numbers, quartz[0].positions, quartz[0].cell, quartz[0].pbc, labels)
    network = make_model([periodic], ["dipole", "energy"])
    found = evaluate(network, [periodic])
    assert "dipole" not in found
    assert found["stress"]["unit"] == "eV/Å^3"
    molecule = Frame(
        frames[0].atomic_numbers,
        frames[0].positions,
        frames[0].cell,
        frames[0].pbc,
        {**frames[0].labels, "stress": np.zeros((3, 3))},
    )
    assert "stress" not in evaluate(make_model(frames, ["monopole", "energy"]), [molecule])


def test_dielectric_tensors_are_compared_relative_and_for_crystals_alone(files, frames):
    zirconia = read_frames(files / "zirconia_pbe.extxyz")[:3]
    network = make_model([*zirconia, *frames], ["monopole", "polarizability"])
    found = evaluate(network, zirconia)["dielectric_tensor"]
    errors = []
    for frame in zirconia:
        value = network(build_graph(frame, 3.0), properties=("dielectric_tensor",))["dielectric_tensor"][0].numpy()
        errors.append((value - frame.labels["dielectric_tensor"]) / np.diag(frame.labels["dielectric_tensor"]).mean())
    assert found == {
        "rmse": pytest.approx(np.sqrt(np.mean(np.square(errors)))),
        "unit": "relative",
        "mae": pytest.approx(np.mean(np.abs(errors))),
        "n_frames": 3,
    }
    mixed = evaluate(network, [frames[0], *zirconia, *frames[1:]])
    assert mixed["dielectric_tensor"] == {**found, "rmse": pytest.approx(found["rmse"]), "mae": pytest.approx(found["mae"])}
    molecules = evaluate(network, frames)["dipole"]
    assert mixed["dipole"] == {**molecules, "rmse": pytest.approx(molecules["rmse"]), "mae": pytest.approx(molecules["mae"])}
    assert "in 3 frames" in format_table(mixed) and mixed["polarizability"]["n_frames"] == len(frames)
    alone = evaluate(network, stripped(zirconia, {"dielectric_tensor"}))
    assert alone["dielectric_tensor"]["rmse"] == pytest.approx(found["rmse"]) and Z not in alone


def test_polarization_is_compared_modulo_the_quantum():
    cell = np.diag([3.0, 4.0, 5.0])
    frame = Frame(
        np.array([1, 1, 1, 1]),
        np.arange(12.0).reshape(4, 3),
        cell,
        np.ones(3, bool),
        {"polarization": np.array([0.1, 0.2, 0.3])},
    )
    found = summarize_comparison(Comparison([frame], [{"polarization": np.array([6.1, 0.2, -4.1])}]))
    assert found["polarization"]["mae"] == pytest.approx(0.6 / 3 / 2)


def test_a_model_without_charges_is_compared_by_energies(frames):
    found = summarize_comparison(compare(make_model(frames, ["energy"]), frames))
    assert Z not in found and "head_shares" not in found
    assert found["energy"]["rmse"] > 0


def test_nothing_in_common_is_no_error(frames):
    bare = [Frame(f.atomic_numbers, f.positions, f.cell, f.pbc) for f in frames[:2]]
    assert summarize_comparison(compare(make_model(frames, ["energy"]), bare)) == {"n_frames": 2}


def test_the_table_names_every_number_with_its_unit(model, frames):
    text = format_table(evaluate(model, frames))
    for part in (
        "RMSE (e)",
        "all components",
        "off-diagonal",
        "antisymmetric part",
        "trivial model",
        "head dipole",
        "eV/atom",
        "eV/Å",
        "sum-rule residual per cell",
    ):
        assert part in text
