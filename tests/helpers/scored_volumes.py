"""Makes masks of known errors, with images, labels and scores, and the pages on them."""

from pathlib import Path

import numpy as np
from nifti_files import affine, write_nifti
from volume_plans import small_plan

from vil_dense.medical.metrics import Score, Scoring, save_scores, score_files
from vil_dense.medical.pages.write import Pair, save_evaluation_page
from vil_dense.medical.statistics import summarise_with_intervals

CT = dict(rule="ct", low=-100.0, high=300.0, mean=100.0, std=60.0)
PLAN = small_plan("organ", "vessel", channels=["CT"], spacing_mm=(1.0, 1.0, 2.0), intensity=[CT])
SHAPE, SPACING = (24, 20, 12), (1.0, 1.0, 2.0)


def write_pairs(root: Path, count: int) -> list[Pair]:
    """Writes cases `case_00`, ...: the mask of case n is the label moved by n voxels; the last one lacks the vessel."""
    pairs = []
    place = affine("LPS", SPACING)
    for number in range(count):
        label = np.zeros(SHAPE, np.uint8)
        label[3:15, 4:16, 2:9], label[5:8, 6:9, 3:6] = 1, 2
        mask = np.roll(label, number, axis=0)
        if number == count - 1:
            mask[mask == 2] = 1
        image = 80 * label.astype(np.int16) + np.random.default_rng(number).integers(-90, 90, SHAPE).astype(np.int16)
        name = f"case_{number:02}"
        files = [
            write_nifti(root / folder / f"{name}.nii.gz", voxels, place)
            for folder, voxels in (("masks", mask), ("labels", label), ("images", image))
        ]
        pairs.append(Pair(name, *files))
    return pairs


def write_page(root: Path, pairs: list[Pair], **options: object) -> tuple[list[Score], dict, Path]:
    """Scores pairs and writes their page to `root`; returns scores, summary and page."""
    files = [(pair.name, pair.mask, pair.label) for pair in pairs]
    scoring = Scoring(dict(organ=1, vessel=2))
    scores = score_files(files, PLAN, scoring)
    summary = save_scores(scores, root, scoring, summarise_with_intervals(scores, scoring))
    given: dict = dict(title="Scores", command_line="python evaluate.py", uncertainty={}, warn=print) | options
    return scores, summary, save_evaluation_page(root, pairs, scores, summary, PLAN, **given)
