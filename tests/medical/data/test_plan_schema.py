"""A plan is read from a file or a mapping, and its faults are named."""

import json
from pathlib import Path

import pytest

from vil_dense.medical.data.plan_schema import read_plan

PLAN = dict(
    channels=["MR"],
    labels=dict(background=0, a=1, b=2),
    orientation="RAS",
    spacing_mm=(1.0, 1.0, 1.0),
    patch_vox=(8, 8, 8),
    intensity=[dict(rule="zscore")],
)


def test_plan_from_a_file_and_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(dict(plan=PLAN, data={})))
    assert read_plan(path) == json.loads(json.dumps(PLAN))
    for change, message in (
        (dict(labels=dict(a=1, b=2)), "labels are 0, 1, [.]{3} without a gap"),
        (dict(spacing_mm=(1, 1)), "spacing_mm has three positive numbers"),
        (dict(intensity=[]), "a rule for each of 1 channels"),
        (dict(intensity=[dict(rule="hist")]), "unknown intensity rule 'hist'; known: zscore, ct, range"),
    ):
        with pytest.raises(ValueError, match=message):
            read_plan({**PLAN, **change})
    with pytest.raises(ValueError, match="missing: intensity"):
        read_plan({key: value for key, value in PLAN.items() if key != "intensity"})
    with pytest.raises(FileNotFoundError, match=r"tools/volumes/plan\.py DATA --out"):
        read_plan(tmp_path / "none.json")
