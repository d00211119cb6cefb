"""Heads on a frozen mace model: are its energies and forces untouched, and what does Z* lose against a free network?

Trains the heads on the backbone of a mace model, then a network of the same sizes from scratch, and compares their errors on
held-out frames. The energies and forces of the first are compared with those that mace's own ASE calculator gives.

    python scripts/frozen_backbone.py --mace my.model --json frozen.json
    python scripts/frozen_backbone.py --make-mace --json frozen.json

With ``--make-mace`` a small mace model is first trained on the energies and forces of the data: one with random weights is
written by mace, trained here (``freeze: false``), and its weights are written back into a file of mace.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from bec_mace.config.model import ModelConfig
from bec_mace.config.schema import RunConfig
from bec_mace.errors import BecMaceError
from bec_mace.models.checkpoint_file import read_checkpoint

Z = "born_effective_charges"
LIMIT = 1e-6


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--mace", type=Path, metavar="FILE", help="model file of mace; a pickle, which runs code")
    source.add_argument("--make-mace", action="store_true", help="train a small one on the same data")
    parser.add_argument("--data", default="data/water_rpbe_d3.extxyz", metavar="FILE")
    parser.add_argument("--test-fraction", type=float, default=0.15, help="share of the frames that is held out; 0.15")
    parser.add_argument("--heads", nargs="+", default=["dipole"], metavar="HEAD")
    parser.add_argument("--epochs", type=int, default=30, help="of the heads, and of the free network; 30")
    parser.add_argument("--mace-epochs", type=int, default=30, help="of the mace model that --make-mace trains; 30")
    parser.add_argument("--channels", type=int, default=16, help="of the mace model that --make-mace trains; 16")
    parser.add_argument("--r-max", type=float, default=4.5, help="of the mace model that --make-mace trains, in Å; 4.5")
    parser.add_argument("--learning-rate", type=float, default=0.15, help="of SOAP; 0.15")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--runs",
        nargs="+",
        choices=["frozen", "free", "tuned"],
        default=["frozen", "free"],
        help="tuned: the backbone is trained too, from the weights of mace",
    )
    parser.add_argument("--output", type=Path, default=Path("runs/frozen_backbone"), metavar="FOLDER")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    if args.output.exists():
        parser.error(f"--output {args.output}: exists already; remove it or name another folder")
    return args


def train_run(
    args: argparse.Namespace, name: str, model: dict[str, Any], epochs: int, weights: dict[str, float]
) -> dict[str, Any]:
    """One training run; its results, with the processor time of all of it."""
    from bec_mace.train.loop import train

    config = RunConfig.model_validate(
        {
            "output": str(args.output / name),
            "device": args.device,
            "data": {"train": args.data, "validation": 0.0, "test": args.test_fraction},
            "model": model,
            "training": {
                "epochs": epochs,
                "optimizer": {"name": "soap", "learning_rate": args.learning_rate},
                "loss": {"weights": weights},
            },
        }
    )
    start = time.process_time()
    return {**train(config), "processor_seconds": time.process_time() - start}


def make_mace(args: argparse.Namespace) -> Path:
    """Train a small mace model on energies and forces; returns its file."""
    args.output.mkdir(parents=True)
    fresh, trained = args.output / "fresh.model", args.output / "trained.model"
    write_fresh_mace(args, fresh)
    results = train_run(
        args,
        "mace",
        {"backbone": {"from_mace": str(fresh), "freeze": False}, "heads": ["energy"]},
        args.mace_epochs,
        {"energy": 1.0, "forces": 10.0},
    )
    found = results.get("test", {})
    print(
        "mace model: "
        + ", ".join(
            f"{name} RMSE {found[name]['rmse']:.4f} {found[name]['unit']}" for name in ("energy", "forces") if name in found
        )
    )
    write_back(args.output / "mace", fresh, trained)
    return trained


def write_fresh_mace(args: argparse.Namespace, path: Path) -> None:
    """A mace model with random weights and the statistics of the training frames."""
    import numpy as np

    from bec_mace.config.schema import DataConfig
    from bec_mace.data import compute_statistics, split_frames
    from bec_mace.models.mace import backbone
    from bec_mace.train.prepare import elements_of

    config = DataConfig(train=args.data, validation=0.0, test=args.test_fraction)
    frames = split_frames(config, properties=("energy", "forces"))["train"]
    statistics, elements = compute_statistics(frames, args.r_max), elements_of(frames)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mace import modules

        residual = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
        torch.manual_seed(0)
        torch.set_default_dtype(torch.float64)
        module = modules.ScaleShiftMACE(
            r_max=args.r_max,
            num_bessel=8,
            num_polynomial_cutoff=5,
            max_ell=2,
            num_interactions=2,
            interaction_cls=residual,
            interaction_cls_first=residual,
            num_elements=len(elements),
            hidden_irreps=backbone.o3.Irreps(f"{args.channels}x0e + {args.channels}x1o"),
            MLP_irreps=backbone.o3.Irreps("16x0e"),
            atomic_energies=np.array([statistics.reference_energies[z] for z in elements]),
            avg_num_neighbors=statistics.avg_num_neighbors,
            atomic_numbers=elements,
            correlation=2,
            gate=torch.nn.functional.silu,
            radial_MLP=[32, 32],
            use_reduced_cg=False,
            atomic_inter_scale=statistics.rms_forces,
            atomic_inter_shift=0.0,
        )
        torch.set_default_dtype(torch.float32)
        torch.save(module, path)


@torch.no_grad()
def write_back(run: Path, fresh: Path, trained: Path) -> None:
    """Put the weights of a trained model into the mace file that it was made from."""
    from bec_mace.models import load_model

    model = load_model(run, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.load(fresh, weights_only=False)
        module.node_embedding.load_state_dict(model.backbone.node_embedding.state_dict())
        for layer, interaction, product in zip(model.backbone.layers, module.interactions, module.products, strict=True):
            interaction.load_state_dict(layer.interaction.state_dict())
            product.load_state_dict(layer.product.state_dict())
        for ours, theirs in zip(model.heads["energy"].readouts.layers.values(), module.readouts, strict=True):
            if hasattr(theirs, "linear"):
                set_scalar_weights(theirs.linear, ours[0].weight)
            else:
                set_scalar_weights(theirs.linear_1, ours[0].weight)
                set_scalar_weights(theirs.linear_2, ours[2].weight / theirs.non_linearity.acts[0].cst)
        torch.save(module, trained)


def set_scalar_weights(linear: Any, matrix: torch.Tensor) -> None:
    """Make an e3nn Linear the map of its scalars by a matrix of shape (n_out, n_in)."""
    for weight, instruction in zip(linear.weight_views(), linear.instructions, strict=True):
        if linear.irreps_in[instruction.i_in].ir.l == 0:
            weight.copy_(matrix.T / instruction.path_weight)


def deviations(mace_file: Path, run: Path, data: str, count: int = 4) -> dict[str, float]:
    """Largest differences of the trained model from mace's ASE calculator, in float64, on frames spread over the data."""
    from bec_mace import load_model
    from bec_mace.data import build_graph, read_frames

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mace.calculators import MACECalculator

        calculator = MACECalculator(model_paths=str(mace_file), device="cpu", default_dtype="float64")
        model = load_model(run, dtype=torch.float64)
        frames = read_frames(data)
        largest = {"energy_ev_per_atom": 0.0, "force_ev_per_angstrom": 0.0}
        for frame in frames[:: -(-len(frames) // count)]:
            atoms = frame.to_atoms()
            atoms.calc = calculator
            out = model(build_graph(frame, model.r_max), ("energy", "forces", Z))
            energy = abs(float(out["energy"]) - atoms.get_potential_energy()) / len(frame)
            force = float((out["forces"] - torch.tensor(atoms.get_forces())).abs().max())
            largest = {
                "energy_ev_per_atom": max(energy, largest["energy_ev_per_atom"]),
                "force_ev_per_angstrom": max(force, largest["force_ev_per_angstrom"]),
            }
    return largest


def free_network(run: Path, heads: list[str]) -> dict[str, Any]:
    """The sizes of the network that a run on a mace model has read, for one with random weights."""
    stored = read_checkpoint(run / "best.safetensors")[0]["config"]
    keys = (
        "r_max",
        "channels",
        "max_l",
        "hidden_irreps",
        "correlation",
        "num_interactions",
        "radial_basis",
        "num_radial",
        "cutoff_power",
        "radial_mlp",
    )
    return {**ModelConfig(r_max=1.0, heads=list(heads)).model_dump(mode="json"), **{key: stored[key] for key in keys}}


def main() -> int:
    args = parse_arguments()
    mace_file = make_mace(args) if args.make_mace else args.mace
    on_mace = {"heads": list(args.heads), "backbone": {"from_mace": str(mace_file), "freeze": True}}
    figures: dict[str, Any] = {"limit": LIMIT, "epochs": args.epochs, "heads": args.heads, "runs": {}}
    for name in sorted(args.runs, key=["frozen", "free", "tuned"].index):
        if name == "free" and "frozen" not in args.runs:
            continue
        model = (
            free_network(args.output / "frozen", args.heads)
            if name == "free"
            else {**on_mace, "backbone": {"from_mace": str(mace_file), "freeze": name == "frozen"}}
        )
        results = train_run(args, name, model, args.epochs, {Z: 1.0})
        figures["runs"][name] = {
            "rmse_e": results["test"][Z]["rmse"],
            "mae_e": results["test"][Z]["mae"],
            "processor_seconds": results["processor_seconds"],
        }
        figures["trivial_rmse_e"] = results["test"][Z]["trivial"]["rmse"]
    if "frozen" in args.runs:
        figures["deviation"] = deviations(mace_file, args.output / "frozen", args.data)
    print(f"| backbone | RMSE of Z* (e) | MAE (e) | processor s |\n|{'---|' * 4}")
    for name, row in figures["runs"].items():
        print(f"| {name} | {row['rmse_e']:.4f} | {row['mae_e']:.4f} | {row['processor_seconds']:.0f} |")
    print(f"| trivial model | {figures['trivial_rmse_e']:.4f} | | |\n")
    for name, value in figures.get("deviation", {}).items():
        print(f"largest deviation from mace, {name}: {value:.1e} (limit {LIMIT:.0e})")
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if max(figures.get("deviation", {"": 0.0}).values()) < LIMIT else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BecMaceError as error:
        sys.exit(f"{error}")
