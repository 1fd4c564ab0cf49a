"""Tests studies with few labels: nested draws, lists that data sets read, tables that add up, and whole studies."""

import csv
import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from fold_runs import write_cases
from fold_runs import write_config as write_volumes
from mmengine.registry import DATASETS
from picture_folders import build, write_folder
from refusals import assert_error_line, assert_one_line, raises_one_line
from run_command import ROOT, run_command
from small_runs import CROP, write_config

from vil_dense.medical.datalists.datalist import read_datalist, write_datalist
from vil_dense.mm.cli import grids
from vil_dense.mm.datasets.folders.split import draw_nested
from vil_dense.report.label_curve import Run, difference_rows, markdown, save_plot, table_rows
from vil_dense.synthetic.scenes import write_sample

SHARES = [1, 5, 10, 25, 100]


@pytest.mark.parametrize("per_group", [1, 3])
def test_a_smaller_share_is_within_a_larger_one(per_group: int) -> None:
    groups = {f"case_{number:03}": f"patient_{number // per_group}" for number in range(90)}
    parts = draw_nested(groups, SHARES, seed=0)
    for share, smaller, larger in zip(SHARES[1:], parts.values(), [*parts.values()][1:], strict=False):
        assert {*smaller} <= {*larger}
        least = math.ceil(share * 90 / 100)
        assert least <= len(larger) < least + per_group
    assert len(parts[1]) == per_group, "one case at least, and its whole group"
    for names in parts.values():
        taken = {groups[name] for name in names}
        assert [name for name, group in groups.items() if group in taken] == names
    assert parts == draw_nested(dict(reversed(groups.items())), SHARES, seed=0), "whatever the order of the files"
    assert parts[10] != draw_nested(groups, SHARES, seed=1)[10]
    for shares, cases in (([0], groups), ([101], groups), ([5], {})):
        with raises_one_line(ValueError, "share" if cases else "no cases"):
            draw_nested(cases, shares, 0)


def test_pictures_are_read_by_a_list_of_names(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    sample = dict(type="SampleDataset", data_root=str(write_sample(tmp_path / "sample", train=3, val=1)), pipeline=[])
    sample |= dict(data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"))
    whole = DATASETS.build(sample)
    own = write_folder(tmp_path / "own", "cityscapes")
    for options, names in (
        (sample, [whole.name_of(whole.get_data_info(1))]),
        (None, ["p3_leftImg8bit", "p0_leftImg8bit"]),
    ):
        file.write_text("\n".join(names))
        part = dict(filter_cfg=dict(names=str(file)))
        made = DATASETS.build(options | part) if options else build(own, **part)
        found = [made.name_of(made.get_data_info(index)) for index in range(len(made))]
        assert found == sorted(names)
        file.write_text("\n".join([*names, "nowhere"]))
        with raises_one_line(FileNotFoundError, "nowhere", str(file)):
            DATASETS.build(options | part) if options else build(own, **part)


def test_volumes_are_read_by_a_data_list(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data", 6, folds=3)
    train, val = read_datalist(data).split(1)
    write_datalist(tmp_path / "list.json", data, train[1:3], val, fold=1)
    listed = read_datalist(data, tmp_path / "list.json")
    found = listed.split(1)
    assert [[(case.name, case.label) for case in part] for part in found] == [
        [(case.name, case.label) for case in part] for part in (train[1:3], val)
    ]
    assert [case.images[0].resolve() for case in found[0]] == [case.images[0].resolve() for case in train[1:3]]


def made_runs() -> list[Run]:
    """Returns runs of two configs and seeds; b is 2 better on each picture, but for one that only a has."""
    runs = []
    for seed in range(2):
        for config, gain in (("a", 0.0), ("b", 2.0)):
            cases = {f"case_{number}": 10.0 * number + seed + gain for number in range(4)}
            cases |= {"case_4": math.nan} if config == "b" else {"case_4": 99.0}
            runs.append(Run(config, 5.0, seed, 3, 20.0 + seed + gain, cases))
    return [*runs, Run("a", 1.0, 0, 1, 7.0, {"case_0": 7.0})]


def test_tables_add_up(tmp_path: Path) -> None:
    rows = table_rows(made_runs())
    assert [(row["share"], row["config"], row["seeds"], row["labels"], row["mean"]) for row in rows] == [
        (1.0, "a", 1, 1, 7.0), (5.0, "a", 2, 3, 20.5), (5.0, "b", 2, 3, 22.5),
    ]  # fmt: skip
    assert rows[1]["deviation"] == pytest.approx(math.sqrt(0.5)) and math.isnan(rows[0]["deviation"])
    (found,) = difference_rows(made_runs(), {})
    assert (found["share"], found["config"], found["reference"], found["seeds"]) == (5.0, "b", "a", 2)
    assert found["groups"] == 4 and found["difference"] == found["low"] == found["high"] == found["least"] == 2.0
    (grouped,) = difference_rows(made_runs(), {f"case_{number}": "p" for number in range(3)})
    assert grouped["groups"] == 2 and grouped["difference"] == pytest.approx(2.0)
    (grouped,) = difference_rows(made_runs(), {f"case_{number}": "p" for number in (0, 4)})
    assert grouped["difference"] == pytest.approx(2.0), "a case that one config has alone is in no mean of its patient"
    text = markdown(made_runs(), [found], "mIoU", 2)
    assert "| 5 | 3 | b | 2 | 22.50 | 0.71 |" in text and "| 5 | b | +2.00 | +2.00 to +2.00 | 0.12 |" in text
    save_plot(tmp_path / "labels.png", made_runs(), "mIoU")
    assert (tmp_path / "labels.png").stat().st_size > 5000


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Runs the trainings of a study in this process, and lists the folders of those that were started."""
    started: list[Path] = []

    def train(script: Path, config: str, folder: Path, options: Sequence[str], *, log: Path | None = None) -> None:
        started.append(folder)
        line = shlex.join(["train", str(config), "--resume", "--work-dir", str(folder), "--cfg-options", *options])
        assert run_command(line, monkeypatch) == 0

    monkeypatch.setattr(grids, "train", train)
    return started


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.slow
def test_a_study_of_pictures(tmp_path: Path, in_this_process: list[Path], monkeypatch, capsys) -> None:
    config, work = write_config(tmp_path), tmp_path / "work"
    (tmp_path / "lora.py").write_text('_base_ = ["./config.py"]\nlora = 2\n')
    line = f"few_labels {config} --with {tmp_path}/lora.py --work-dir {work} --shares 25 75 --budget 1"
    assert run_command(f"{line} --seeds 1 --cfg-options {CROP}", monkeypatch) == 0
    rows = table(work / "runs.csv")
    assert [(row["config"], row["share"], row["labels"]) for row in rows] == [
        ("config", "25", "1"), ("lora", "25", "1"), ("config", "75", "3"), ("lora", "75", "3"),
    ]  # fmt: skip
    lists = [{*(work / f"lists/seed_0_share_{share}.txt").read_text().split()} for share in (25, 75)]
    assert len(lists[0]) == 1 and lists[0] < lists[1]
    for folder in in_this_process:
        result = json.loads((folder / "pictures/result.json").read_text())
        assert result["steps"] == 1 and (folder / "done").is_file()
        row = next(row for row in rows if folder.match(f"{row['config']}/share_{row['share']}/*"))
        assert float(row["value"]) == pytest.approx(result["metrics"]["mIoU"], rel=1e-4)
    assert "lora" in (work / "lora/share_25/seed_0/lora.py").read_text()
    assert len(table(work / "differences.csv")) == 2 and (work / "labels.png").is_file()
    # one that was stopped is resumed, the others are not repeated; one more share and another metric
    (work / "config/share_75/seed_0/done").unlink()
    in_this_process.clear()
    more = line.replace("25 75", "25 75 100") + f" --seeds 1 --metric mBIoU --cfg-options {CROP}"
    assert run_command(more, monkeypatch) == 0
    assert [folder.relative_to(work).as_posix() for folder in in_this_process] == [
        "config/share_75/seed_0", "config/share_100/seed_0", "lora/share_100/seed_0",
    ]  # fmt: skip
    assert {row["metric"] for row in table(work / "runs.csv")} == {"mBIoU"}
    capsys.readouterr()
    assert run_command(f"{line.replace('--budget 1', '--budget 2')} --cfg-options {CROP}", monkeypatch) == 2
    assert_error_line(capsys.readouterr().err, str(work / "config"), "steps", "--work-dir")


@pytest.mark.slow
def test_a_study_of_volumes(tmp_path: Path, in_this_process: list[Path], monkeypatch) -> None:
    data, work = write_cases(tmp_path / "data", 6), tmp_path / "work"
    config = write_volumes(tmp_path / "small.py", data, patient=r"p\d")
    schedule = ROOT / "configs/_base_/schedules/adamw_volumes.py"
    text = config.read_text().replace('/volumes_runtime.py"', f'/volumes_runtime.py", "{schedule}"')
    config.write_text(f"{text}\nval_evaluator = dict(plan=plan)\n")
    line = f"few_labels {config} --work-dir {work} --shares 10 100 --seeds 2 --budget 1"
    assert run_command(line, monkeypatch) == 0
    rows = table(work / "runs.csv")
    assert [(row["share"], row["labels"], row["seed"], row["metric"]) for row in rows] == [
        ("10", "2", "0", "Dice"), ("100", "4", "0", "Dice"), ("10", "2", "1", "Dice"), ("100", "4", "1", "Dice"),
    ]  # fmt: skip
    for name in ("seed_0_share_10", "seed_1_share_10"):
        cases = read_datalist(data, work / f"lists/{name}.json").split(0)
        assert len({case.name[:2] for case in cases[0]}) == 1, "both cases of one patient"
        assert [case.name for case in cases[1]] == [
            case.name for case in read_datalist(data, patient=r"p\d").split(0)[1]
        ]
    assert {row["case"] for row in table(work / "cases.csv")} == {case.name for case in cases[1]}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("{config} --shares 0", ("share", "0")),
        ("{config} --metric Dice", ("mIoU", "Dice")),
        ("{config} --with {config}", ("different names", "{config}")),
        ("configs/vil_imagenet.py", ("vil_imagenet.py", "max_iters")),
        ("{config} --cfg-options randomness.seed=1", ("randomness.seed", "--seeds")),
        ("{config} --with {other}", ("other.py", "1 are in one alone")),
    ],
)
def test_what_is_refused(arguments: str, names: tuple[str, ...], tmp_path: Path, monkeypatch, capsys) -> None:
    config, other = write_config(tmp_path), tmp_path / "other.py"
    other.write_text(config.read_text().replace(f"{tmp_path}/sample", f"{tmp_path}/more"))
    write_sample(tmp_path / "more", train=5, val=1)
    line = arguments.format(config=config, other=other)
    options = "" if "--cfg-options" in line or "imagenet" in line else f" --cfg-options {CROP}"
    assert run_command(f"few_labels {line} --work-dir {tmp_path}/work{options}", monkeypatch) == 2
    assert_error_line(capsys.readouterr().err.splitlines()[-1] + "\n", *(name.format(config=config) for name in names))
    assert not (tmp_path / "work/settings.json").exists()


def test_a_training_that_fails_is_named_and_not_done(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    script = tmp_path / "train.py"
    script.write_text("import sys\nprint(sys.argv[1:])\nsys.exit(75)\n")
    with pytest.raises(SystemExit) as end:
        grids.train_once(script, "config.py", tmp_path / "run", grids.as_options({"a.b": None, "c": "x y"}))
    assert end.value.code == 75 and not (tmp_path / "run/done").exists()
    printed = capsys.readouterr()
    assert_one_line(printed.out.strip(), str(tmp_path / "run/output.log"))
    assert_error_line(printed.err, str(tmp_path / "run/output.log"), "75", "resumes")
    said = (tmp_path / "run/output.log").read_text()
    assert "'--resume', '--work-dir'" in said and "'a.b=None'" in said and "x y" in said
