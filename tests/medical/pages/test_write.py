"""Tests the pages of volumes: the worst cases first, numbers as in the tables, and what is missing is said."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from browser import chromium, measure, screenshot
from nifti_files import affine, write_nifti
from page_checks import check_page
from PIL import Image
from scored_volumes import PLAN, SHAPE, SPACING, write_page, write_pairs

from vil_dense.files import save_json
from vil_dense.medical.pages.overlays import draw_case
from vil_dense.medical.pages.write import SHOWN, draw_pair, save_prediction_page
from vil_dense.medical.statistics import mean_dice


def captions(html_images: list[dict[str, str]]) -> list[str]:
    return [image["alt"] for image in html_images]


def test_a_page_of_scores(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 14)
    unsure = {pair.name: dict(entropy=number / 20) for number, pair in enumerate(pairs)}
    scores, summary, path = write_page(tmp_path / "out", pairs, uncertainty=unsure)
    page = check_page(path)
    dice = mean_dice(scores)
    ranked = sorted(dice, key=lambda case: dice[case])
    shown = captions(page.all("img"))
    assert shown[:4] == [f"{case}: mean Dice {dice[case]:.3f}" for case in ranked[:4]], "the worst first"
    assert shown[4:8] == [f"{case}: mean Dice {dice[case]:.3f}" for case in ranked[:-5:-1]] and len(shown) == 12
    assert len(list((tmp_path / "out/overlays").iterdir())) == 12
    mean = summary["mean"]
    assert f"{mean['dice']:.3f} mean Dice (95 % {mean['dice_95'][0]:.3f} to {mean['dice_95'][1]:.3f})" in page.text
    assert "1, 0 missed, and false positive structures" in page.text
    assert f"Lowest mean Dice: {ranked[0]} ({dice[ranked[0]]:.3f})" in page.text
    assert [
        heading for heading in ("Pictures of cases", "Cases", "Volumes", "Uncertainty") if heading not in page.text
    ] == []
    assert "Spearman's correlation of the entropy with the mean Dice is -1.00 (14 cases" in page.text
    assert "boundary voxels" in page.text and "python evaluate.py" in page.text
    # a strip with both structures, a chart of the volumes of each, one of the uncertainty: all cases are points
    vessels = sum(score.structure == "vessel" for score in scores)
    assert len(page.all("svg")) == 4 and len(page.all("circle")) == 2 * 14 + (14 + vessels) + 14
    assert "limits of agreement" in page.text and "vessel 14" in page.text


def test_cases_without_a_usable_image_are_drawn_without(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 3)
    other = write_nifti(tmp_path / "other.nii.gz", np.zeros((3, 3, 3), np.int16))
    pairs = [
        pairs[0]._replace(image=None),
        pairs[1]._replace(image=tmp_path / "none.nii.gz"),
        pairs[2]._replace(image=other),
    ]
    said: list[str] = []
    _, _, path = write_page(tmp_path / "out", pairs, warn=said.append)
    assert len(check_page(path).all("img")) == 3
    first, second = sorted(said)
    assert "case_01" in first and "none.nii.gz" in first and "case_02" in second and "not on one grid" in second


def test_a_frame_is_drawn_over_its_own_image(tmp_path: Path) -> None:
    """Tests the mask of a frame of a series in time: the picture under it is that of the frame, not of the first."""
    (pair,) = write_pairs(tmp_path, 1)
    voxels = np.zeros((*SHAPE, 2), np.int16)
    voxels[..., 1] = 300
    series = write_nifti(tmp_path / "series.nii.gz", voxels, affine("LPS", SPACING))
    first, second = (draw_pair(pair._replace(image=series, frame=frame), PLAN, pytest.fail) for frame in (0, 1))
    assert second.mean() > first.mean() + 50


def test_the_volumes_of_a_case(tmp_path: Path) -> None:
    """Tests charts of a structure in one case alone, and of one that is nowhere, without limits of agreement."""
    pairs = write_pairs(tmp_path, 2)[:1]
    _, summary, path = write_page(tmp_path / "out", pairs)
    page = check_page(path)
    assert summary["mean"]["dice_95"] is None and "nan" not in page.text.lower()
    assert len(page.all("img")) == 1


def write_predictions(folder: Path, count: int, uncertainty: bool) -> None:
    """Writes reports and overlays as a folder of predictions has them."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[3:9, 3:9, 3:9] = 1
    overlay = Image.fromarray(draw_case("x", None, mask, np.eye(4), dict(organ=1)))
    for number in range(count):
        name = f"scan_{number:02}"
        rows = [dict(structure="organ", label=1, voxels=5, ml=number + 0.25, components=2, touches_border=False)]
        numbers = dict(entropy=abs(math.sin(number)), mutual_information=0.1) if number != 3 else None
        save_json(
            folder / f"reports/{name}.json",
            dict(case=name, structures=rows, **(dict(uncertainty=numbers) if uncertainty else {})),
        )
        (folder / "overlays").mkdir(exist_ok=True)
        overlay.save(folder / f"overlays/{name}.png")
    save_json(folder / "settings.json", {})


@pytest.mark.parametrize("uncertainty", [False, True])
def test_a_page_of_predictions(uncertainty: bool, tmp_path: Path) -> None:
    write_predictions(tmp_path, SHOWN + 2, uncertainty)
    page = check_page(save_prediction_page(tmp_path, "python predict.py"))
    shown = captions(page.all("img"))
    assert len(shown) == SHOWN and "no truth" in page.text
    assert shown[:2] == (
        ["scan_03", f"scan_11, entropy {abs(math.sin(11)):.3f}, mutual information 0.100"]
        if uncertainty
        else ["scan_00", "scan_01"]
    )
    targets = [a["href"] for a in page.all("a")]
    assert all(f"overlays/scan_{number:02}.png" in targets for number in range(SHOWN + 2))
    assert "25.25" in page.text and "settings.json" in targets


def test_a_page_of_predictions_with_a_missing_overlay_and_other_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests a case whose overlay was deleted, which has no picture and no link, and a report of another program."""
    write_predictions(tmp_path, 3, uncertainty=False)
    (tmp_path / "overlays/scan_01.png").unlink()
    save_json(tmp_path / "reports/other.json", [dict(tool="other")])
    monkeypatch.chdir(tmp_path)
    page = check_page(save_prediction_page(Path(), "python predict.py"))
    assert captions(page.all("img")) == ["scan_00", "scan_02"]
    targets = [a["href"] for a in page.all("a")]
    assert "overlays/scan_02.png" in targets and "overlays/scan_01.png" not in targets
    assert "3 cases." in page.text and "scan_01" in page.text and "1.25" in page.text
    assert f"Predictions in {tmp_path.name}" in page.text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scores", "predictions"])
def test_pages_in_a_browser(kind: str, tmp_path: Path) -> None:
    """Opens pages on a phone and a desktop: nothing sticks out or is requested, pictures load; light and dark."""
    chromium()
    if kind == "scores":
        pairs = write_pairs(tmp_path, 14)
        unsure = {pair.name: dict(entropy=number / 20) for number, pair in enumerate(pairs)}
        _, _, path = write_page(tmp_path / "out", pairs, uncertainty=unsure)
    else:
        write_predictions(tmp_path / "out", 6, uncertainty=True)
        path = save_prediction_page(tmp_path / "out", "python predict.py " + "x" * 200)
    opened = tmp_path / "out/open.html"
    opened.write_text(path.read_text().replace('<details class="thumb">', '<details class="thumb" open>'))
    for page in (path, opened):
        for width in (360, 1280):
            found = measure(page, tmp_path, width)
            assert found["wide"] == [] and found["width"] <= width and found["requests"] == []
            assert found["images"] == len(check_page(path).all("img")) > 0
    for dark in (False, True):
        seen = screenshot(path, tmp_path, 1280, 800, dark).astype(int).sum(-1)
        assert (np.bincount(seen.ravel()).argmax() < 200) == dark


def test_metrics_hold_what_the_page_shows(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 4)
    write_page(tmp_path / "out", pairs)
    content = json.loads((tmp_path / "out/metrics.json").read_text())
    assert content["nsd"] == "voxel" and "boundary voxels" in content["nsd_definition"]
    assert content["structures"]["organ"]["dice_95"][0] <= content["structures"]["organ"]["dice"]
