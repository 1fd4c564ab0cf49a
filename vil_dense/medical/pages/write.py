"""Writes the pages of volumes: of an evaluation against labels, and of a folder of predictions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image

from vil_dense.files import read_json, save_png
from vil_dense.medical.data.plan_schema import Plan
from vil_dense.medical.io.volumes import at_frame, check_same_grid, read_channels, read_grid, read_label
from vil_dense.medical.label_map import LabelMap
from vil_dense.medical.metrics import Score
from vil_dense.medical.pages.overlays import draw_comparison
from vil_dense.medical.pages.score_sections import chosen_cases, score_lead, score_sections
from vil_dense.report import (
    Thumbnail,
    command,
    environment,
    facts,
    jpeg_uri,
    link,
    page,
    save_page,
    table,
    thumbnails,
)
from vil_dense.report.page import Cell, note, paragraph

OVERLAY_PX = 1100
"""Longer side of an overlay on a page, which fills a desktop's window."""
SHOWN = 24
"""Most cases of a folder of predictions whose pictures the page holds; it links to the others."""


class Pair(NamedTuple):
    """Stores the files of a case to score: mask, label and, where it is known, the image, or a frame of it."""

    name: str
    mask: Path
    label: Path
    image: Path | None = None
    frame: int | None = None


def draw_pair(pair: Pair, plan: Plan, warn: Callable[[str], None]) -> np.ndarray:
    """Draws the mask of a case with contours of its label, over the image if that can be read; see `draw_comparison`.

    Args:
        warn: called with a sentence on an image that cannot be drawn.
    """
    values = LabelMap.of(plan).file_values
    mask, grid = read_label(pair.mask, values)
    truth, _ = read_label(pair.label, values)
    image = None
    if pair.image is not None:
        try:
            source = at_frame(read_grid(pair.image), pair.frame)
            check_same_grid(source, grid)
            channels = np.empty((source.channels, *source.shape), dtype=np.float32)
            read_channels(source, channels, plan.get("nan_background"))
            image = channels[0]
        except (OSError, ValueError, MemoryError) as error:
            warn(f"the image of {pair.name} is not drawn: {error}")
    return draw_comparison(pair.name, image, mask, truth, grid.affine, plan)


def save_evaluation_page(
    out: Path,
    pairs: Sequence[Pair],
    scores: Sequence[Score],
    summary: Mapping[str, Any],
    plan: Plan,
    *,
    title: str,
    command_line: str,
    uncertainty: Mapping[str, Mapping[str, float]],
    warn: Callable[[str], None],
    tables: Sequence[str] = ("metrics.csv", "metrics.json"),
) -> Path:
    """Writes `report.html` and the overlays of the cases that it shows to the folder of an evaluation.

    Args:
        summary: see `score_lead`.
        uncertainty: see `score_sections`.
        warn: see `draw_pair`.
        tables: files beside the page, to which it links.

    Returns:
        The path of the page.
    """
    files, pictures = {pair.name: pair for pair in pairs}, {}
    for case in (case for cases in chosen_cases(scores).values() for case in cases):
        overlay = draw_pair(files[case], plan, warn)
        save_png(out / f"overlays/{case}.png", overlay)
        pictures[case] = jpeg_uri(overlay, OVERLAY_PX)
    lead = [
        paragraph(f"{summary['cases']} cases, {len(summary['structures'])} structures."),
        *score_lead(scores, summary),
    ]
    sections = {
        **score_sections(scores, summary, pictures, uncertainty),
        "Run": [command(command_line), facts({name: link(name, name) for name in tables})],
        "Environment": [facts(environment())],
    }
    save_page(out / "report.html", page(title, lead, sections))
    return out / "report.html"


def save_prediction_page(folder: Path, command_line: str) -> Path:
    """Writes `report.html` to a folder of predictions (`inference.batch.Folder`): pictures, volumes, uncertainty.

    The most uncertain cases come first where uncertainty was measured, else the cases in order of their names. A case
    whose overlay was deleted has no picture; JSON files of other programs are left out.

    Returns:
        The path of the page.
    """
    found = [read_json(path) for path in sorted((folder / "reports").glob("*.json"))]
    reports = [report for report in found if isinstance(report, dict) and {"case", "structures"} <= {*report}]
    measures = [*dict.fromkeys(name for report in reports for name in report.get("uncertainty") or {})]
    if measures:
        reports.sort(key=lambda report: -(report.get("uncertainty") or {measures[0]: 1.0})[measures[0]])
    overlays = {report["case"]: f"overlays/{report['case']}.png" for report in reports}
    drawn = {case: path for case, path in overlays.items() if (folder / path).is_file()}
    first_drawn = [report for report in reports if report["case"] in drawn][:SHOWN]
    shown = [
        Thumbnail(_caption(report), _overlay_uri(folder / drawn[report["case"]]), _structure_table(report))
        for report in first_drawn
    ]
    few = f" The page shows {SHOWN} of them; the table links to the others." if len(drawn) > SHOWN else ""
    first = " Those of the highest entropy, and those in which nothing was found, come first." if measures else ""
    count = f"{len(reports)} case{'s' * (len(reports) != 1)}"
    lead = [
        paragraph(f"{count}. There is no truth here, so there are no scores.{first}{few}"),
    ]
    names = [*dict.fromkeys(row["structure"] for report in reports for row in report["structures"])]
    sections = {
        "Pictures": [note("Click a picture to enlarge it and to see the structures of the case."), thumbnails(shown)],
        "Volumes": [
            note("Volumes in ml; the uncertainty is the mean of its map over the voxels of the mask, from 0 to 1."),
            _volume_table(reports, drawn, names, measures),
        ],
        "Run": [command(command_line), facts({name: link(name, name) for name in _tables(folder)})],
        "Environment": [facts(environment())],
    }
    save_page(folder / "report.html", page(f"Predictions in {folder.resolve().name}", lead, sections))
    return folder / "report.html"


def _tables(folder: Path) -> list[str]:
    known = ("volumes.csv", "uncertainty.csv", "settings.json")
    return [name for name in known if (folder / name).is_file()]


def _caption(report: Mapping[str, Any]) -> str:
    numbers = (report.get("uncertainty") or {}).items()
    return ", ".join([report["case"], *(f"{name.replace('_', ' ')} {value:.3f}" for name, value in numbers)])


def _overlay_uri(path: Path) -> str:
    with Image.open(path) as picture:
        return jpeg_uri(np.asarray(picture.convert("RGB")), OVERLAY_PX)


def _structure_table(report: Mapping[str, Any]) -> Markup:
    rows: list[list[Cell]] = [
        [row["structure"], row["ml"], row["components"], "yes" if row["touches_border"] else "no"]
        for row in report["structures"]
    ]
    return table(["structure", "ml", "components", "touches the border"], rows)


def _volume_table(
    reports: Sequence[Mapping[str, Any]],
    drawn: Mapping[str, str],
    names: Sequence[str],
    measures: Sequence[str],
) -> Markup:
    """Returns a row for each case: a link to its overlay if there is one, the uncertainty, the ml of each structure."""
    rows: list[list[Cell]] = []
    for report in reports:
        unsure = report.get("uncertainty") or {}
        volumes = {row["structure"]: row["ml"] for row in report["structures"]}
        numbers = [f"{unsure[name]:.3f}" if name in unsure else None for name in measures]
        case = report["case"]
        rows.append(
            [link(drawn[case], case) if case in drawn else case, *numbers, *(volumes.get(name) for name in names)]
        )
    return table(["case", *(name.replace("_", " ") for name in measures), *names], rows)
