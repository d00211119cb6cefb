from __future__ import annotations

import json

import numpy as np
import pytest

from bec_mace.data import Frame, read_frames, summarize
from bec_mace.data.summary import trivial_rmse


def frame(tensors: list[np.ndarray] | None, source: str = "here", shift: float = 0.0) -> Frame:
    labels = {} if tensors is None else {"born_effective_charges": np.array(tensors, float)}
    return Frame(
        np.array([3, 9]),
        np.array([[0, 0, 0], [1.5 + shift, 0, 0]]),
        np.zeros((3, 3)),
        np.zeros(3, dtype=bool),
        labels=labels,
        source=source,
    )


def test_numbers_by_hand() -> None:
    first = np.eye(3)
    second = -np.eye(3)
    second[0, 1] = 0.6
    summary = summarize([frame([first, second], "a"), frame(None, "b", shift=1)])
    assert (summary.n_frames, summary.n_atoms, summary.n_periodic) == (2, 4, 0)
    assert summary.elements == {"Li": 2, "F": 2}
    assert summary.labels == {"born_effective_charges": 1}
    assert summary.species_means == pytest.approx({"Li": 1.0, "F": -1.0})
    # One wrong component of 0.6 e among 18, and among the 9 of the sum.
    assert summary.trivial_rmse == pytest.approx(0.6 / np.sqrt(18))
    assert summary.sum_rule_rms == pytest.approx(0.6 / 3)
    assert summary.sum_rule_max == pytest.approx(0.6)
    assert summary.rotation is None
    assert summary.duplicates == []
    assert summary.warnings == []


def test_included_water_scores_as_published() -> None:
    summary = summarize(read_frames("bec_mace:water_revpbe_d3.extxyz.gz"))
    assert summary.trivial_rmse == pytest.approx(0.174, abs=5e-4)
    assert summary.elements == {"H": 2944, "O": 1472}
    assert summary.species_means["O"] == pytest.approx(-0.945, abs=1e-3)
    assert summary.n_periodic == 23


def test_no_labels() -> None:
    summary = summarize([frame(None)])
    assert summary.trivial_rmse is None
    assert summary.sum_rule_rms is None
    assert summary.text() == "1 frames (0 periodic), 2 atoms\nelements: Li 1, F 1\nlabels: none"


def test_text_and_json(files) -> None:
    summary = summarize(read_frames(files / "water_clusters_rpbe_d3.extxyz"))
    text = summary.text()
    assert "10 frames (0 periodic), 39 atoms" in text
    assert "dipole in all" in text
    assert "rotational sum rule on 10 molecules" in text
    assert f"RMSE of one charge per element: {summary.trivial_rmse:.4f} e" in text
    stored = json.loads(json.dumps(summary.to_dict()))
    assert stored["rotation"]["n_frames"] == 10
    assert stored["trivial_rmse"] == summary.trivial_rmse
    assert stored["warnings"] == []


def test_partial_labels_are_counted() -> None:
    tensors = [np.eye(3), -np.eye(3)]
    assert "born_effective_charges in 1 of 2" in summarize([frame(tensors), frame(None, shift=1)]).text()


def test_duplicates_are_named() -> None:
    summary = summarize([frame(None, "a"), frame(None, "b", shift=1), frame(None, "c")])
    assert summary.duplicates == [["a", "c"]]
    assert "warning: 1 structures occur more than once, the first as a and c" in summary.text()


def test_trivial_model_with_charges_from_elsewhere() -> None:
    tensors = [np.eye(3), -np.eye(3)]
    assert trivial_rmse([frame(tensors)], {3: 1.0, 9: -0.7}) == pytest.approx(np.sqrt(3 * 0.09 / 18))
    assert trivial_rmse([frame(tensors)], {3: 1.0}) == pytest.approx(np.sqrt(3 / 18))
    assert trivial_rmse([frame(None)], {}) is None
