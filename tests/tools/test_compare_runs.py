"""Tests the page of several runs: paired differences of pictures, classes, curves, pictures that differ most."""

import csv
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from page_checks import check_page
from PIL import Image
from refusals import assert_error_line, assert_one_line
from run_command import run_tool
from scipy.stats import wilcoxon

from vil_dense.mm.engine.hooks.report_page import Evaluation, save_results
from vil_dense.mm.evaluation.metrics import ClassIoUMetric
from vil_dense.mm.visualization.result_files import read_result

META = dict(classes=("<sky>", "road", "car"), palette=[[90, 160, 250], [110, 110, 110], [230, 60, 200]])


def write_run(
    folder: Path, pictures: Path, wrong: float, count: int = 9, meta: dict = META, protocol: str = "own size"
) -> str:
    """Writes the results and the log of a run whose predictions differ from the truth in a share `wrong` of pixels."""
    rng = np.random.default_rng(0)
    metric = ClassIoUMetric(iou_metrics=["mIoU"])
    metric.dataset_meta = meta
    for n in range(count):
        truth = np.sort(rng.integers(0, 3, (20, 30)), axis=0)
        missed = rng.random((20, 30)) < wrong * n  # fewer in each picture of a better run
        prediction = np.where(missed, (truth + 1) % 3, truth)
        path = pictures / f"{n}.jpg"
        if not path.exists():
            Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(path)
        parts = {key: dict(data=torch.tensor(label[None])) for key, label in
                 (("gt_sem_seg", truth), ("pred_sem_seg", prediction))}  # fmt: skip
        metric.process({}, [dict(parts, img_path=str(path))])
    metrics = metric.evaluate(count)
    data = SimpleNamespace(dataset=SimpleNamespace(data_prefix=dict(img_path=str(pictures))))
    runner = SimpleNamespace(val_evaluator=SimpleNamespace(metrics=[metric]), val_dataloader=data)
    evaluation = Evaluation(runner, "val", metrics)
    save_results(folder / "pictures", evaluation, dict(about="A network & its data.", protocol=protocol))
    columns = ("class", "IoU", "boundary_IoU", "accuracy", "pixels")
    rows = [",".join(map(str, row)) for row in (columns, *metric.per_class)]
    (folder / "pictures/per_class.csv").write_text("\n".join(rows))
    log = folder / "20250101/vis_data/scalars.json"
    log.parent.mkdir(parents=True)
    log.write_text("\n".join(json.dumps(row) for row in (dict(step=1, loss=wrong), dict(step=2, mIoU=metrics["mIoU"]))))
    return str(folder)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_page_and_differences(tmp_path: Path, pictures: Path) -> None:
    runs = [write_run(tmp_path / name, pictures, wrong) for name, wrong in (("a", 0.01), ("b", 0.04), ("c", 0.02))]
    out = run_tool("compare_runs", *runs, "--out", tmp_path / "out").stdout
    (said,) = [line for line in out.splitlines() if "difference" in line and "report" not in line]
    assert_one_line(said, "difference from a", "95 %", "p of")
    with (tmp_path / "out/differences.csv").open() as file:
        rows = {(row["run"], row["value"]): row for row in csv.DictReader(file)}
    values = {}
    for run in ("a", "b"):
        with (tmp_path / run / "pictures/per_image.csv").open() as file:
            values[run] = [float(row["mIoU"]) for row in csv.DictReader(file)]
    result = read_result(tmp_path / "b")
    for file in result.pictures:
        truth, prediction = result.label_maps(file) or ()
        assert 100 * (truth == prediction).mean() == pytest.approx(result.values("accuracy", [file])[0], rel=1e-4)
    difference = np.subtract(values["b"], values["a"])
    row = rows["b", "mIoU"]
    assert float(row["mean"]) == pytest.approx(difference.mean(), rel=1e-4) and difference.mean() < 0
    assert float(row["p"]) == pytest.approx(wilcoxon(difference).pvalue, rel=1e-4)
    assert float(row["low"]) < difference.mean() < float(row["high"]) < 0
    assert int(row["pictures"]) == 9 and int(row["worse"]) == 8 and int(row["better"]) == 0
    assert {key[0] for key in rows} == {"b", "c"} and ("b", "cross_entropy") not in rows
    page = check_page(tmp_path / "out/report.html")
    assert f"b minus a, mean of 9 pictures: mIoU {difference.mean():+.2f}" in page.text
    assert "protocols differ" not in page.text
    assert "b is worse" in page.text and "b is better" not in page.text and "A network & its data." in page.text
    assert len(page.all("img")) == 2 * 4 * 4  # two runs, four pictures each: picture, truth, first run, other run
    assert [svg["aria-label"] for svg in page.all("svg")] == [
        "Training loss against step: a, b, c",
        "Validation mIoU against step: a, b, c",
    ]


def test_a_linked_run_that_differs_in_nothing(tmp_path: Path, pictures: Path) -> None:
    """Tests that a run has the name by which it was given, and that no p is said where there is none."""
    for name in ("first", "a", "stored/20250101"):  # the first one draws the pictures, too
        write_run(tmp_path / name, pictures, 0.01)
    (tmp_path / "latest").symlink_to(tmp_path / "stored/20250101")
    out = run_tool("compare_runs", tmp_path / "a", tmp_path / "latest", "--out", tmp_path / "out").stdout
    assert "latest  mIoU: +0.0000 (+0.0000 to +0.0000), p undefined, as no picture differs, 9 pictures" in out
    assert "nan" not in out


def test_without_pictures_of_the_data(tmp_path: Path, pictures: Path) -> None:
    """Tests that data may be elsewhere by now, and one run tested on fewer pictures."""
    runs = [
        write_run(tmp_path / "x/run", pictures, 0.01),
        write_run(tmp_path / "y/run", pictures, 0.03, count=6, protocol="short side 512"),
    ]
    for path in pictures.iterdir():
        path.unlink()
    run_tool("compare_runs", *runs, "--out", tmp_path / "out")
    page = check_page(tmp_path / "out/report.html")
    assert "y/run minus x/run, mean of 6 pictures" in page.text and len(page.all("img")) == 3 * 4
    assert page.text.count("the file of the picture cannot be read") == 4
    assert "x/run: own size; y/run: short side 512" in page.text


def test_refused(tmp_path: Path, pictures: Path) -> None:
    good = write_run(tmp_path / "a", pictures, 0.01)
    renamed = write_run(tmp_path / "b", pictures, 0.02, meta=dict(META, classes=("sky", "street", "car")))
    bad_zip, bad_table, bad_json = (write_run(tmp_path / name, pictures, 0.02) for name in "cde")
    with zipfile.ZipFile(f"{bad_zip}/pictures/label_maps.zip", "w") as archive:
        archive.writestr("8_truth.png", b"none")
    Path(bad_table, "pictures/per_image.csv").write_text("file,mIoU\nx.jpg,high\n")
    Path(bad_json, "pictures/result.json").write_text("[]")
    for runs, names in (
        ([good], [good]),
        ([good, good], [good]),
        ([good, str(tmp_path / "none")], [tmp_path / "none", "result.json"]),
        ([good, renamed], ["<sky>", "street"]),
        ([good, bad_zip], ["label_maps.zip"]),
        ([good, bad_table], ["per_image.csv", "high"]),
        ([good, bad_json], ["result.json", "metrics"]),
    ):
        assert_error_line(run_tool("compare_runs", *runs, "--out", tmp_path / "out").stderr, *names)
    assert not (tmp_path / "out").exists()
