"""Tests that a plan is read from a file or a mapping, and its faults are named."""

import json
from pathlib import Path

from refusals import raises_one_line
from volume_plans import small_plan

from vil_dense.medical.data.plan_schema import read_plan

PLAN = small_plan("a", "b")


def test_plan_from_a_file_and_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(dict(plan=PLAN, data={})))
    assert read_plan(path) == json.loads(json.dumps(PLAN))
    for change, names in (
        (dict(labels=dict(a=1, b=2)), ("labels", "{'a': 1, 'b': 2}")),
        (dict(spacing_mm=(1, 1)), ("spacing_mm",)),
        (dict(intensity=[]), ("intensity", "1 channels")),
        (dict(nan_background="0"), ("nan_background", "'0'")),
        (dict(nan_background=float("nan")), ("nan_background", "nan")),
        (dict(intensity=[dict(rule="hist")]), ("'hist'", "zscore, ct, range")),
    ):
        with raises_one_line(ValueError, *names):
            read_plan({**PLAN, **change})
    with raises_one_line(ValueError, "intensity"):
        read_plan({key: value for key, value in PLAN.items() if key != "intensity"})
    with raises_one_line(FileNotFoundError, "tools/volumes/plan.py"):
        read_plan(tmp_path / "none.json")
