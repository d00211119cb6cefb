"""Files of mace that cannot be used, and configurations that name one: what the user is told."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bec_mace.config.model import MaceSizes, ModelConfig
from bec_mace.config.schema import load_config
from bec_mace.data import build_graph
from bec_mace.errors import ConfigError, ModelError
from bec_mace.models import build_model
from bec_mace.models.mace.mace_file import read_mace_file, sizes_of
from bec_mace.models.mace.weights import compare_with_mace
from bec_mace.testing.structures import make_frame
from tests.models.mace.mace_systems import STATISTICS, build, mace_model, modules

# Copying or writing a module of e3nn makes TorchScript of it.
pytestmark = pytest.mark.filterwarnings("ignore:The TorchScript type system:UserWarning")


def change(place: str, value: Any) -> Callable[[Any], None]:
    """A function that sets an attribute of a module."""

    def apply(module: Any) -> None:
        *path, last = place.split(".")
        for part in path:
            module = module[int(part)] if part.isdigit() else getattr(module, part)
        setattr(module, last, value)

    return apply


def damage_couplings(module: Any) -> None:
    coupling = module.products[0].symmetric_contractions.contractions[0].U_tensors(2)
    coupling.copy_(torch.rand(coupling.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))


def repel(module: Any) -> None:
    module.pair_repulsion, module.pair_repulsion_fn = True, torch.nn.Identity()


def change_agnesi(module: Any) -> None:
    module.radial_embedding.distance_transform = modules.radial.AgnesiTransform(q=1.2)


def train_radial(module: Any) -> None:
    module.radial_embedding.bessel_fn.bessel_weights.mul_(1.01)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change("heads", ["pbe", "r2scan"]), r"a model of 2 heads \(pbe, r2scan; mace_select_head"),
        (repel, r"the pair repulsion Identity is not supported. Supported are MACE and ScaleShiftMACE"),
        (change("use_so3", True), "use_so3 is not supported"),
        (change("use_agnostic_product", True), "use_agnostic_product is not supported"),
        (change("joint_embedding", torch.nn.Identity()), "an embedding of other features is not supported"),
        (change("radial_embedding.distance_transform", torch.nn.Identity()), "the distance transform Identity"),
        (change_agnesi, "an Agnesi transform with other constants than a = 1.0805, q = 0.9183, p = 4.5791 is not supported"),
        (change("radial_embedding.apply_cutoff", False), "apply_cutoff: False is not supported"),
        (change("radial_embedding.bessel_fn", torch.nn.Identity()), "the radial functions Identity"),
        (
            change("interactions.1.__class__", modules.blocks.RealAgnosticDensityResidualInteractionBlock),
            "the interaction block RealAgnosticDensityResidualInteractionBlock in layer 2",
        ),
        (
            change("interactions.1.__class__", modules.blocks.RealAgnosticInteractionBlock),
            "the interaction block RealAgnosticInteractionBlock in layer 2",
        ),
        (change("interactions.0.cueq_config", SimpleNamespace(enabled=True)), "a model for cuEquivariance"),
        (change("interactions.0.node_feats_irreps", "8x0e"), "edge_irreps 4x0e is not supported"),
        (change("interactions.0.hidden_irreps", "4x0e + 2x1o"), r"hidden_irreps 4x0e\+2x1o is not supported"),
        (change("interactions.1.hidden_irreps", "4x1o"), "features 4x1o after the last layer"),
        (change("readouts.1.__class__", modules.blocks.NonLinearBiasReadoutBlock), "the readout NonLinearBiasReadoutBlock"),
        (change("readouts.1.hidden_irreps", "3x0e + 3x1o"), r"a readout with hidden units 3x0e \+ 3x1o"),
        (change("readouts.1.non_linearity.acts.0.f", torch.sigmoid), "the gate sigmoid is not supported"),
        (
            change("interactions.0.linear_up.weight", torch.nn.Parameter(torch.zeros(3))),
            r"the weights linear_up.weight of .* do not have the shape \(16,\)",
        ),
        (damage_couplings, "the coupling coefficients of degree 2 are none that mace makes"),
        (train_radial, r"bessel_fn\.bessel_weights were trained, which is not supported"),
    ],
)
def test_models_that_cannot_be_evaluated(damage: Callable, message: str, present: Callable[[Any], str]) -> None:
    module = copy.deepcopy(mace_model("usual"))
    damage(module)
    with pytest.raises(ModelError, match=rf"user\.model: {message}"):
        build(present(module))


def test_a_model_that_differs_from_mace_is_noticed(present: Callable[[Any], str]) -> None:
    path = present(mace_model("usual"))
    model = build(path)
    section = ModelConfig.model_validate({"backbone": {"from_mace": path}, "heads": ["monopole"]})
    assert section.backbone is not None
    source = read_mace_file(section, section.backbone)
    compare_with_mace(model, source)
    with torch.no_grad():
        model.heads["energy"].readouts.layers["1"][0].weight.mul_(1.001)
    with pytest.raises(ModelError, match=r"user\.model: the energy of this model differ by .*please report it|Please report"):
        compare_with_mace(model, source)


def test_files_that_are_no_models(save: Callable[[Any], str], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no file .*none\.model; give the model file that mace wrote"):
        build(str(tmp_path / "none.model"))
    with pytest.raises(ModelError, match=r"user\.model: holds an object of class dict; give the model file"):
        build(save({"epoch": 3}))
    with pytest.raises(ModelError, match=r"user\.model: holds an object of class Linear; .*not a checkpoint"):
        build(save(torch.nn.Linear(2, 2)))
    (tmp_path / "user.model").write_text("no pickle")
    with pytest.raises(ModelError, match=r"user\.model: cannot be read as a mace model \(.*\); give the model file"):
        build(str(tmp_path / "user.model"))


def test_compiled_model(present: Callable[[Any], str]) -> None:
    class RecursiveScriptModule:
        pass

    with pytest.raises(ModelError, match="holds a compiled model; .*without 'compiled' in its name"):
        build(present(RecursiveScriptModule()))


def test_elements_that_mace_has_not_seen(present: Callable[[Any], str]) -> None:
    path = present(mace_model("usual"))
    with pytest.raises(ModelError, match=r"the mace model has not seen N, Fe; it knows H, C, O\. Leave out"):
        build(path, elements=(1, 7, 26))
    model = build(path, elements=(8,))
    assert model.elements == [1, 6, 8]
    with pytest.raises(ModelError, match="has not seen Fe"):
        model(build_graph(make_frame([26], [[0.0, 0.0, 0.0]]), model.r_max))


def test_heads_that_need_vectors(present: Callable[[Any], str]) -> None:
    with pytest.raises(ModelError, match="the dipole head needs 1o features; .* or take a mace model that has them"):
        build(present(mace_model("scalars")), ("dipole",))


def test_sizes_are_missing() -> None:
    with pytest.raises(ModelError, match=r"model\.backbone: the sizes of the mace model are missing"):
        sizes_of(ModelConfig(r_max=3.0, heads=["monopole"]))
    with pytest.raises(ModelError, match=r"model\.r_max: missing; give the cutoff radius"):
        build_model(ModelConfig(r_max=3.0, heads=["monopole"]).model_copy(update={"r_max": None}), [1], STATISTICS)


CONFIG = """\
data: {train: water.extxyz}
model:
  backbone: {from_mace: user.model}
  heads: [dipole]
training: {epochs: 1}
"""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"heads: [dipole]": "heads: [dipole]\n  channels: 16"},
            r"c\.yaml:5: model\.channels: comes from the file of model\.backbone\.from_mace; remove channels",
        ),
        ({"heads: [dipole]": "heads: [dipole]\n  r_max: 5.0"}, r"c\.yaml:5: model\.r_max: comes from the file"),
        ({"backbone: {from_mace: user.model}": "max_l: 2"}, r"model\.r_max: missing key; Cutoff radius in Å"),
        ({"user.model}": "user.model, freze: true}"}, r"model\.backbone\.freze: unknown key; did you mean 'freeze'"),
        (
            {"from_mace: user.model": "freeze: true"},
            r"model\.backbone\.from_mace: missing key; Model file of mace. It is a pickle",
        ),
        (
            {"epochs: 1": "epochs: 1, loss: {weights: {energy: 1, born_effective_charges: 1}}"},
            r"'energy' of a frozen mace model is not trained; remove it or set model\.backbone\.freeze to false",
        ),
    ],
)
def test_mistakes_in_a_configuration(changes: dict[str, str], message: str, tmp_path: Path) -> None:
    text = CONFIG
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "c.yaml")


def test_configurations_that_are_sound(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    assert load_config(tmp_path / "c.yaml").model.backbone.freeze is True
    free = load_config(tmp_path / "c.yaml", ["model.backbone.freeze=false", "training.loss.weights={forces: 1}"])
    assert free.model.backbone.freeze is False and free.model.r_max is None
    sizes = MaceSizes(
        residual_first=True,
        layer_irreps=["2x0e"],
        correlations=[2],
        avg_num_neighbors=[3.0],
        readouts=[[]],
        gate="none",
        scale=1.0,
        reference_energies=[0.0],
        single_precision=False,
    )
    sizes = sizes.model_dump(mode="json", exclude_none=True)
    with pytest.raises(ConfigError, match=r"model\.backbone\.sizes: is read from the file of from_mace; remove it"):
        load_config(tmp_path / "c.yaml", [f"model.backbone.sizes={sizes}".replace("True", "true").replace("False", "false")])
