"""Chooses configuration, ensemble and post-processing by the Dice of predictions for cases that no training saw.

The single configuration of the highest mean Dice is the start. A pair of configurations, and then each step of
post-processing of each structure, replaces what there is only if it raises the mean Dice by more than chance (`RULE`).
The mean Dice is that of `metrics`: absent structures are left out, missed and false ones count 0.

The Dice of what is chosen is measured on the cases that it was chosen by, and so a little too high. `Selection.nested`
makes the same choice without one fold and scores that fold, for each fold in turn, which is not.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from scipy import ndimage

from vil_dense.files import short_names
from vil_dense.medical.cross_validations import PooledFolds
from vil_dense.medical.inference.ensemble import mean_mask
from vil_dense.medical.io.geometry import voxel_ml as ml_of
from vil_dense.medical.io.grid import move_slices
from vil_dense.medical.io.volumes import check_same_grid, read_label
from vil_dense.medical.label_map import inside as voxels_of
from vil_dense.medical.postprocess import boxes, find_components, kept_components, postprocess
from vil_dense.medical.statistics import draw_counts, mean_over_structures, middle, structure_means

LEVEL = 0.025
RULE = (
    "a change is chosen if the gain in mean Dice is above 0 in all but 2.5/m % of the bootstrap draws of patients, m "
    "being the number of changes that are tried beside it, and if it changes the scores of log2(40 m) patients or more"
)
MIN_ML = (0.01, 0.1, 1.0, 10.0)
"""Volumes that are tried as the smallest of a component."""
STEPS: list[dict[str, Any]] = [
    {key: value for key, value in dict(fill_holes=fill, largest=largest, min_ml=volume).items() if value}
    for fill, largest, volume in itertools.product((False, True), (False, True), (0.0, *MIN_ML))
]
"""All combinations of steps; the first one is none."""

Members = tuple[int, ...]
"""Numbers of the cross-validations of a configuration or an ensemble."""


def dice_of(mask: np.ndarray, truth: np.ndarray, structures: Sequence[int | Sequence[int]]) -> list[float]:
    """Returns the Dice of each structure, a value in the mask and the truth or several, NaN where neither has it."""
    pairs = [(voxels_of(mask, values), voxels_of(truth, values)) for values in structures]
    sums = [(2 * int((found & true).sum()), int(found.sum()) + int(true.sum())) for found, true in pairs]
    return [both / total if total else math.nan for both, total in sums]


def step_dice(mask: np.ndarray, truth: np.ndarray, value: int, voxel_ml: float) -> list[float]:
    """Returns the Dice of one of the classes after each of `STEPS`, as `postprocess` does them, NaN where it is absent.

    The components are found twice, with and without holes, and each is compared with the truth once.
    """
    true = int((truth == value).sum())
    if not (found_boxes := boxes(mask, [value])):
        return [math.nan if true == 0 else 0.0] * len(STEPS)
    box = found_boxes[0][1]
    part, inside_truth = mask[box], truth[box] == value
    inside = part == value
    found = {}
    for fill in (False, True):
        filled = inside | (ndimage.binary_fill_holes(inside) & (part == 0)) if fill else inside
        components, sizes = find_components(filled)
        both = np.bincount(components.ravel(), weights=inside_truth.ravel(), minlength=len(sizes) + 1)[1:]
        found[fill] = sizes, both
    dice = []
    for steps in STEPS:
        sizes, both = found["fill_holes" in steps]
        kept = kept_components(sizes, steps, voxel_ml)
        total = float(sizes[kept].sum() + true)
        dice.append(2 * float(both[kept].sum()) / total if total else math.nan)
    return dice


def is_gain(before: np.ndarray, after: np.ndarray, patients: np.ndarray, counts: np.ndarray, tried: int = 1) -> bool:
    """Returns whether a change raises the mean Dice by more than chance, see `RULE`.

    Args:
        before, after: Dice, (cases, structures), NaN where a structure is absent.
        patients: the patient of each case.
        counts: of `statistics.draw_counts`.
        tried: the number of changes that are tried beside it, with it.
    """
    differs = ~np.isclose(before, after, rtol=0, atol=1e-9, equal_nan=True).all(1)
    if len(set(patients[differs].tolist())) < math.log2(tried / LEVEL):
        return False
    draws, draws_before = (mean_over_structures(structure_means(table, counts)) for table in (after, before))
    return bool(np.nanpercentile(draws - draws_before, 100 * LEVEL / tried) > 0)


class Selection:
    """Chooses among cross-validations of the same cases.

    Args:
        runs: see `cross_validations.check_same_cases`.
        report: called with a word, the number of cases done and of all.
    """

    def __init__(self, runs: Sequence[PooledFolds], report: Callable[[str, int, int], None] = lambda *_: None) -> None:
        self.runs, self.report = runs, report
        self.of_runs = short_names([run.folder for run in runs])
        self.names = [*runs[0].cases]
        self.known = runs[0].labels
        written = dict(zip(self.known.outputs, self.known.written, strict=True))
        self.structures = [*self.known.structures]
        self.values = [written[name] for name in self.structures]
        # else the steps of a structure change the scores of others, or voxels that are not scored
        self.separate = not self.known.regions and self.known.ignore is None
        self.patients = np.array([runs[0].cases[name].patient for name in self.names])
        self.folds = np.array([runs[0].cases[name].fold for name in self.names])
        pairs = [
            pair
            for pair in itertools.combinations(range(len(runs)), 2)
            if all(case.probabilities.is_file() for index in pair for case in runs[index].cases.values())
        ]
        self.members: list[Members] = [*((index,) for index in range(len(runs))), *pairs]
        self._stepped: dict[Members, np.ndarray] = {}
        self._cases: dict[tuple[Members, str], tuple[np.ndarray, np.ndarray, float]] = {}
        self._tables: dict[tuple[Members, tuple[int, ...]], np.ndarray] = {}
        self.plain = {members: self._scored(members, [0] * len(self.structures)) for members in self.members}

    def choose(self, rows: np.ndarray | None = None) -> tuple[Members, dict[str, dict[str, Any]]]:
        """Returns the configuration or ensemble, and the steps of each structure that has some.

        Args:
            rows: which cases decide, (cases,) bool; all unless given.
        """
        rows = np.ones(len(self.names), bool) if rows is None else rows
        counts = draw_counts(list(self.patients[rows]))
        members = max(self.members[: len(self.runs)], key=lambda one: _mean(self.plain[one][rows]))
        pairs = {pair: self.plain[pair] for pair in self.members[len(self.runs) :]}
        members = self._best(members, self.plain[members], pairs, rows, counts)[0]
        chosen = [0] * len(self.structures)
        while True:
            table = self._table(members, chosen, self.separate)
            changes = {
                (column, number): self._table(members, [*chosen[:column], number, *chosen[column + 1 :]], self.separate)
                for column, before in enumerate(chosen)
                for number, steps in enumerate(STEPS)
                if STEPS[before].items() < steps.items() and len(steps) == len(STEPS[before]) + 1
            }
            change, _ = self._best(None, table, changes, rows, counts)
            if change is None:
                break
            chosen[change[0]] = change[1]
        return members, {name: STEPS[at] for name, at in zip(self.structures, chosen, strict=True) if at}

    def _best(
        self, now: Any, table: np.ndarray, changes: Mapping[Any, np.ndarray], rows: np.ndarray, counts: np.ndarray
    ) -> tuple[Any, np.ndarray]:
        """Returns the change of the largest gain that `RULE` allows, and its table; `now` and `table` if none is."""
        best, gain = (now, table), 0.0
        for name, other in changes.items():
            more = _mean(other[rows]) - _mean(table[rows])
            if more > gain and is_gain(table[rows], other[rows], self.patients[rows], counts, len(changes)):
                best, gain = (name, other), more
        return best

    def nested(self) -> dict[str, Any] | None:
        """Chooses without one fold and scores that fold, for each fold in turn; returns None for a single fold.

        Returns:
            `dice`, the mean over all cases; `same`, the number of folds without which the choice is that of all cases;
            `folds`, their number.
        """
        folds = sorted(set(self.folds.tolist()))
        if len(folds) < 2:
            return None
        table = np.full((len(self.names), len(self.structures)), np.nan)
        choices = []
        for fold in folds:
            choices.append(self.choose(self.folds != fold))
            held_out = self.folds == fold
            table[held_out] = self.table(*choices[-1])[held_out]
        return dict(dice=_mean(table), same=choices.count(self.choose()), folds=len(folds))

    def table(self, members: Members, steps: Mapping[str, Mapping[str, Any]]) -> np.ndarray:
        """Returns the Dice of each case and structure, (cases, structures) float64, NaN where it is absent."""
        chosen = [STEPS.index(dict(steps.get(name, {}))) for name in self.structures]
        # a hole of one structure may be what a component of another leaves
        together = len(steps) > 1 and any("fill_holes" in own for own in steps.values())
        return self._table(members, chosen, self.separate and not together)

    def _table(self, members: Members, chosen: Sequence[int], separate: bool) -> np.ndarray:
        """Returns `table` for the numbers of the steps of each structure, perhaps from the scores of each on its own.

        `choose` takes these wherever it can, since it tries many steps.
        """
        if not any(chosen):
            return self.plain[members]
        if separate:
            return _with_steps(self.stepped(members), chosen)
        key = members, tuple(chosen)
        if key not in self._tables:
            self._tables[key] = self._scored(members, chosen)
        return self._tables[key]

    def describe(self, table: np.ndarray) -> dict[str, Any]:
        """Returns the mean Dice of a table with its interval, and that of each structure."""
        means = structure_means(table, draw_counts(list(self.patients)))
        several = len(set(self.patients.tolist())) > 1
        own = structure_means(table, np.ones((1, len(table))))[0]
        return dict(
            dice=_mean(table),
            dice_95=middle(mean_over_structures(means)) if several else None,
            structures={
                name: None if math.isnan(value) else float(value)
                for name, value in zip(self.structures, own, strict=True)
            },
        )

    def stepped(self, members: Members) -> np.ndarray:
        """Returns the Dice after each of `STEPS`, (steps, cases, structures)."""
        if members not in self._stepped:
            tables = []
            for number, name in enumerate(self.names, 1):
                mask, truth, voxel_ml = self._read(members, name)
                tables.append([step_dice(mask, truth, value, voxel_ml) for value in self.values])
                self.report("post-processing", number, len(self.names))
            self._stepped[members] = np.array(tables).transpose(2, 0, 1)
        return self._stepped[members]

    def _scored(self, members: Members, chosen: Sequence[int]) -> np.ndarray:
        """Returns `table` from the masks themselves."""
        steps = {name: STEPS[number] for name, number in zip(self.structures, chosen, strict=True) if number}
        said = "post-processing" if steps else " + ".join(self.of_runs[index] for index in members)
        rows = []
        for number, name in enumerate(self.names, 1):
            mask, truth, voxel_ml = self._read(members, name) if self.separate else self._cropped(members, name)
            if steps:
                mask = mask.copy()
                postprocess(mask, steps, self.known, voxel_ml)
            rows.append(self._dice(mask, truth))
            self.report(said, number, len(self.names))
        return np.array(rows)

    def _dice(self, mask: np.ndarray, truth: np.ndarray) -> list[float]:
        """Returns the Dice of each structure, without the voxels that nobody annotated."""
        if self.known.ignore is not None:
            annotated = truth != self.known.ignore
            mask, truth = mask * annotated, truth * annotated
        return dice_of(mask, truth, [*self.known.structures.values()] if self.known.regions else self.values)

    def _cropped(self, members: Members, name: str) -> tuple[np.ndarray, np.ndarray, float]:
        """Returns `_read` in the box of all structures, which is kept: each table needs it."""
        key = members, name
        if key not in self._cases:
            mask, truth, voxel_ml = self._read(members, name)
            scored = (mask > 0) | ((truth > 0) & (truth != self.known.ignore))
            (box,) = ndimage.find_objects(scored.view(np.uint8)) or [np.s_[:0, :0, :0]]
            self._cases[key] = mask[box].copy(), truth[box].copy(), voxel_ml
        return self._cases[key]

    def _read(self, members: Members, name: str) -> tuple[np.ndarray, np.ndarray, float]:
        """Returns the prediction and the truth of a case, (I, J, K) integers, and the volume of a voxel in ml."""
        cases = [self.runs[index].cases[name] for index in members]
        truth, grid = read_label(cases[0].label, self.known.file_values)
        truth = truth if self.known.regions else self.known.merge(truth)
        if len(cases) == 1:
            mask, own = read_label(cases[0].mask, self.known.file_values)
            check_same_grid(own, grid)
        else:
            mask = move_slices(mean_mask([_probabilities(case.probabilities) for case in cases], self.known), grid)
            if mask.shape != truth.shape:
                raise ValueError(f"{cases[0].probabilities} and {cases[0].label} are on different grids")
        return mask, truth, ml_of(grid.affine)


def _probabilities(path: Path) -> np.ndarray:
    """Returns the stored numbers of a file of probabilities, (I, J, K, classes) uint16, which are read on demand."""
    return np.asanyarray(nibabel.load(path).dataobj.get_unscaled())  # type: ignore[attr-defined]


def _with_steps(stepped: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
    """Returns (cases, structures) of (steps, cases, structures), with the chosen steps of each structure."""
    return np.stack([stepped[number, :, column] for column, number in enumerate(chosen)], axis=1)


def _mean(table: np.ndarray) -> float:
    """Returns the mean over the cases of each structure, and then over the structures."""
    return float(mean_over_structures(structure_means(table, np.ones((1, len(table)))))[0])
