"""Tests the tools that plan volumes, compare runs of them, and make a phantom."""

import csv
import json
import runpy
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS
from refusals import assert_error_line
from run_command import run_tool

from vil_dense.medical.data.plan_sizes import STEPS
from vil_dense.mm.engine.resolve.volumes import resolve_plan
from vil_dense.synthetic.volumes import write_sample

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("volumes") / "phantom", train=3, val=1)


def test_plan_tool(sample: Path, tmp_path: Path) -> None:
    small = ("network.channels=(4,8)", "network.depths=(0,1)", "batch_size=5")
    said = run_tool("volumes/plan", sample, "--out", tmp_path / "plan.json", "--set", *small).stdout
    assert "cases: 4, classes: background, liver, spleen, vessel, gland, channels: CT" in said
    plan = json.loads((tmp_path / "plan.json").read_text())["plan"]
    assert plan["batch_size"] == 5 and plan["network"]["channels"] == [4, 8]
    cfg = Config.fromfile(ROOT / "configs/vil_unet3d_volumes.py")
    cfg.merge_from_dict(dict(plan=str(tmp_path / "plan.json"), data_root=str(sample)))
    cfg.test_dataloader.dataset.fold = None  # its own: all cases
    resolve_plan(cfg)
    assert cfg.test_dataloader.dataset.fold is None and cfg.val_dataloader.dataset.fold == 0
    assert cfg.train_dataloader.batch_size == 5 and cfg.train_dataloader.dataset.data_root == str(sample)
    assert MODELS.build(cfg.model).network.encoder.levels[1].conv1.conv.out_channels == 8
    # A run's own config holds the plan, and still takes what is said of it on the command line.
    cfg.dump(tmp_path / "run.py")
    (tmp_path / "plan.json").unlink()
    own = Config.fromfile(tmp_path / "run.py")
    own.merge_from_dict({"fold": 1, "plan.batch_size": 7, "label_check": None})
    own.train_dataloader.dataset.data_root = "elsewhere"
    resolve_plan(own)
    data, held_out = own.train_dataloader.dataset, own.val_dataloader.dataset
    assert data.fold == held_out.fold == 1 and data.plan.batch_size == own.model.plan.batch_size == 7
    assert data.data_root == "elsewhere" and held_out.data_root == str(sample)
    done = run_tool("volumes/plan", tmp_path, "--out", tmp_path / "none.json")
    assert_error_line(done.stderr)
    assert done.returncode == 2 and not (tmp_path / "none.json").exists()


def test_the_plan_tool_names_regions_and_what_is_ignored() -> None:
    describe = runpy.run_path(str(ROOT / "tools/volumes/plan.py"))["describe_labels"]
    labels = dict(background=0, whole=[1, 2], core=2)
    assert describe(dict(labels=labels)) == "classes: background, whole, core"
    plan = dict(labels=labels, regions_class_order=[1, 2], ignore_label=0)
    assert describe(plan) == "regions: background, whole, core, without annotation: 0"


def test_plan_to_a_target(sample: Path, tmp_path: Path) -> None:
    small = ("network.depths=(0,1)", "network.channels=(4,8)", "network.deep_supervision=1")
    options = ("--out", tmp_path / "plan.json", "--set", *small, "--gpu-memory")
    said = run_tool("volumes/plan", sample, *options, "0.25", "--cpu-hours", "50", "--steps", "1000").stdout
    made = json.loads((tmp_path / "plan.json").read_text())
    assert made["cost"]["training_gib"] <= 0.25 and 0 < made["cost"]["training_cpu_hours"] <= 50
    assert made["target"]["reason"] in said and "time of 1000 steps: about " in said
    assert Config.fromfile(ROOT / "configs/_base_/schedules/adamw_volumes.py").train_cfg.max_iters == STEPS
    for number in ("0", "-8", "1e9"):
        done = run_tool("volumes/plan", sample, *options, number)
        assert done.returncode == 2
        assert_error_line(done.stderr, "--gpu-memory", "GiB", f"got {float(number):g}")


def test_compare_tool(tmp_path: Path) -> None:
    """Compares eight cases, each worse in the same order: the exact two-sided p of the signed-rank test is 2 / 2^8."""
    for run, loss in (("a", 0.0), ("b", 0.01)):
        rows = ["case,structure,outcome,dice,hd95_mm,nsd"]
        for n in range(8):
            rows += [f"c{n},x,both,{0.9 - loss * (n + 1)},{n + 1},1", f"c{n},y,both,0.5,{n + 1},1", f"c{n},z,absent,,,"]
        (tmp_path / run / "validation").mkdir(parents=True)
        (tmp_path / run / "validation/metrics.csv").write_text("\n".join(rows))
    said = run_tool("volumes/compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "table.csv").stdout
    assert "dice: 0.6775 over 8 cases, difference -0.0225, p 0.00781" in said
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row["metric"] for row in rows] == ["dice", "hd95_mm", "nsd"] * 2 and rows[4]["wilcoxon_p"] == "nan"
    done = run_tool("volumes/compare", tmp_path / "none")
    assert done.returncode == 2
    assert_error_line(done.stderr, "metrics.csv")


def test_compare_tool_with_a_comma_in_a_path_and_without_scores(tmp_path: Path) -> None:
    head = "case,structure,outcome,dice,hd95_mm,nsd\n"
    for run, row in (("lr=1,wd=2", "c,x,both,0.5,1,1"), ("absent", "c,x,absent,,,")):
        (tmp_path / run).mkdir()
        (tmp_path / run / "metrics.csv").write_text(head + row)
    done = run_tool("volumes/compare", tmp_path / "lr=1,wd=2", tmp_path / "lr=1,wd=2")
    assert done.returncode == 0 and "dice: 0.5000 over 1 cases" in done.stdout
    done = run_tool("volumes/compare", tmp_path / "lr=1,wd=2", tmp_path / "absent")
    assert done.returncode == 2
    assert_error_line(done.stderr, tmp_path / "absent")


def test_phantom_tool(tmp_path: Path) -> None:
    said = run_tool("dataset_converters/make_phantom", "--out", tmp_path / "made", "--train", 1, "--val", 1).stdout
    assert "(1 + 1 volumes, classes background, liver" in said
    assert (tmp_path / "made_sheet.png").is_file() and len([*(tmp_path / "made/labelsTr").iterdir()]) == 2
