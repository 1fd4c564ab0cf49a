"""The miniature of tables 2 and 3: every design, small options that the configs take, a table that adds up."""

import math
import runpy
import sys
from pathlib import Path

import pytest
from mmengine.config import Config, DictAction
from refusals import assert_error_line

from vil_dense.mm import ImageClassifier
from vil_dense.mm.engine.resolve.config import resolve_compile

ROOT = Path(__file__).parents[2]
STUDY = runpy.run_path(str(ROOT / "tools/studies/design_study.py"))


def folder_of_classes(root: Path) -> Path:
    for name in ("sky", "road", "car"):
        (root / "train" / name).mkdir(parents=True)
    return root


def test_seven_block_designs_and_five_poolings() -> None:
    folders = [path.parent.name for path in STUDY["DESIGNS"]]
    assert (folders.count("designs"), folders.count("pooling")) == (7, 5)


@pytest.mark.parametrize("design", STUDY["DESIGNS"], ids=lambda path: path.stem)
def test_a_row_becomes_small_and_keeps_its_design(design: Path, tmp_path: Path) -> None:
    whole, cfg = Config.fromfile(design), Config.fromfile(design)
    chosen = STUDY["options"](folder_of_classes(tmp_path), 2, ["train_cfg.max_epochs=1"])
    cfg.merge_from_dict({key: DictAction._parse_iterable(value) for key, value in (o.split("=", 1) for o in chosen)})
    resolve_compile(cfg)
    assert (cfg.model.num_classes, cfg.randomness.seed, cfg.train_cfg.max_epochs) == (3, 2, 1)
    for key in ("direction", "pooling"):
        assert cfg.model.get(key) == whole.model.get(key)
    kept = dict(cfg.model)
    assert kept.pop("type") == "ImageClassifier"
    assert sum(p.numel() for p in ImageClassifier(**kept).parameters()) < 100_000


def test_the_table_adds_up() -> None:
    rows = STUDY["table"](
        dict(
            uni=[dict(seed=0, top1=50.0, step_s=0.1), dict(seed=1, top1=54.0, step_s=0.3)],
            quad=[dict(seed=0, top1=60.0, step_s=0.6)],
        )
    )
    assert rows[0] == ("uni", 2, 52.0, pytest.approx(math.sqrt(8)), pytest.approx(200.0), 1.0)
    assert rows[1][:3] == ("quad", 1, 60.0) and rows[1][5] == pytest.approx(3.0)


def test_missing_classes_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["studies/design_study.py", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        STUDY["main"]()
    assert_error_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
