"""Tests that numbers that cannot be are refused by every tool before it reads or writes anything."""

from pathlib import Path

import pytest
from refusals import assert_error_line

pytest.importorskip("mmseg", reason="mmsegmentation is missing: pip install '.[seg]'")

from run_command import run_command

CASES = [
    ("robustness/soak --out {out}", "--minutes", ("0", "-1", "4.9", "nan", "inf", "long")),
    ("robustness/kill_test --out {out}", "--kills", ("0", "-3", "1.5")),
    ("few_labels none.py --work-dir {out}", "--seeds", ("0", "x")),
    ("studies/probe none.py none --work-dir {out}", "--k", ("0",)),
    ("browse_dataset none.py --out {out}", "--number", ("0", "-5")),
    ("dataset_converters/make_crops --source none --out {out}", "--most", ("0", "-1")),
    ("volumes/plan none --out {out}/plan.json", "--patch-budget", ("0", "1e6")),
    ("volumes/evaluate none.py none none --out {out}", "--tolerance-mm", ("-1", "nan", "inf")),
    ("benchmark/bench_gpu --dry-run --out {out}", "--minutes", ("0", "-1", "nan", "inf")),
]


@pytest.mark.parametrize(("line", "option", "values"), CASES, ids=lambda part: part if isinstance(part, str) else "")
def test_refused(
    line: str,
    option: str,
    values: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    out = tmp_path / "out"
    for value in values:
        assert run_command(f"{line.format(out=out)} {option}={value}", monkeypatch) == 2
        assert_error_line(capsys.readouterr().err, option, value)
        assert not out.exists()
