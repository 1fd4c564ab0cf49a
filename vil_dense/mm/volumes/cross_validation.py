"""Cross-validates a volume config: each case is predicted by a network not trained on it.

The folder of a cross-validation:

  settings.json            what it was made with: another config or other options are refused
  fold_K/                  work folder of the training that holds fold K out
  fold_K/trained.json      written when the training is complete: its checkpoint
  fold_K/held_out/         masks and reports of the held-out cases; metrics.json is written last
  masks/, metrics.csv, summary.json, study.json, report.html    of all cases, written by `pool`

The checkpoint is the last one of a training. The best one is chosen by its score on the held-out cases, whose scores
would then no longer be those of new cases.
"""

import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TextIO

import torch
from mmengine.config import Config

from vil_dense.files import read_json, save_csv, save_json, sha256, whole_folder
from vil_dense.medical.data.plan_schema import read_plan
from vil_dense.medical.datalists.datalist import Case, DataList, read_datalist
from vil_dense.medical.datalists.folds import patient_of
from vil_dense.medical.inference.batch import Folder
from vil_dense.medical.inference.probabilities import Probabilities
from vil_dense.medical.inference.report import read_uncertainty
from vil_dense.medical.metrics import Score, Scoring, save_scores, score_files, summarise
from vil_dense.medical.pages.write import Pair, save_evaluation_page
from vil_dense.medical.statistics import summarise_with_intervals
from vil_dense.mm.cli.grids import check_settings, fingerprint, save_settings
from vil_dense.mm.volumes.predictor import load_segmentors, predicting
from vil_dense.progress import Progress

Train = Callable[[int, Path], None]
"""Trains with one fold held out, into a work folder, or resumes the training that was interrupted there."""


class CrossValidation:
    """Trains and scores the folds of a data set, one after another or in several processes.

    Args:
        root: its folder.
        cfg: of a training, with its plan (`resolve_plan`).
        probabilities: whether to write class probabilities too, which `selection` averages over configs.
        uncertainty: whether to write maps of the uncertainty, whose correlation with Dice `pool` reports.

    Raises:
        ValueError: the data cannot be read, or the folder holds a cross-validation of another config.
    """

    def __init__(self, root: Path, cfg: Config, *, probabilities: bool = False, uncertainty: bool = False) -> None:
        self.root, self.cfg, self.probabilities, self.uncertainty = root, cfg, probabilities, uncertainty
        self.plan = read_plan(cfg.model.plan)
        self.data: DataList = read_datalist(cfg.data_root, cfg.get("datalist"), patient=cfg.get("patient"))
        self.scoring = Scoring.of(self.plan, cfg.get("test_evaluator") or {})
        self.settings = dict(config=Path(cfg.filename).name, sha256=fingerprint(cfg), probabilities=probabilities)
        self.settings |= dict(uncertainty=True) if uncertainty else {}
        check_settings(root, self.settings, "a cross-validation")

    def folder(self, fold: int) -> Path:
        """Returns the work folder of a fold."""
        return self.root / f"fold_{fold}"

    def is_trained(self, fold: int) -> bool:
        """Returns whether the training without a fold is complete.

        Raises:
            ValueError: it held out other cases than the data now say.
        """
        path = self.folder(fold) / "trained.json"
        if not path.is_file():
            return False
        names = [case.name for case in self.data.split(fold)[1]]
        if read_json(path).get("held_out") != names:
            raise ValueError(f"{path.parent} held out other cases than fold {fold} of {self.cfg.data_root} has now")
        return (path.parent / read_json(path)["checkpoint"]).is_file()

    def is_scored(self, fold: int) -> bool:
        """Returns whether the held-out cases of a fold have masks and scores of its checkpoint."""
        folder = self.folder(fold) / "held_out"
        if not self.is_trained(fold) or not (folder / "metrics.json").is_file():
            return False
        return read_json(folder / "settings.json").get("checkpoints") == [self._checkpoint(fold)]

    def _checkpoint(self, fold: int) -> str:
        """Returns name and SHA-256 of the checkpoint of a fold."""
        record = read_json(self.folder(fold) / "trained.json")
        return f"{record['checkpoint']} {record['sha256']}"

    def run(self, fold: int, train: Train, device: torch.device | str = "cpu", stream: TextIO | None = None) -> None:
        """Trains without a fold, segments its cases and scores them; what is done already is not repeated.

        Args:
            fold: its number.
            train: see `Train`.
            device: of the prediction.
            stream: takes the progress (default: stderr).

        Raises:
            ValueError: there is no such fold, or a case of it cannot be read.
        """
        _, held_out = self.data.split(fold)
        save_settings(self.root, self.settings)
        folder = self.folder(fold)
        if not self.is_trained(fold):
            train(fold, folder)
            checkpoint = folder / Path((folder / "last_checkpoint").read_text().strip()).name
            record = dict(checkpoint=checkpoint.name, sha256=sha256(checkpoint), held_out=[c.name for c in held_out])
            if (folder / "held_out").is_dir():  # masks of a network that was trained before
                shutil.rmtree(folder / "held_out")
            save_json(folder / "trained.json", record)
        if not self.is_scored(fold):
            self._score(fold, held_out, device, stream)

    def _score(self, fold: int, cases: Sequence[Case], device: torch.device | str, stream: TextIO | None) -> None:
        """Segments the held-out cases of a fold and writes their scores."""
        folder = self.folder(fold)
        record = read_json(folder / "trained.json")
        models = load_segmentors(self.cfg.model, [folder / record["checkpoint"]], device)
        settings = dict(checkpoints=[self._checkpoint(fold)])
        out = Folder(
            folder / "held_out",
            models,
            self.plan,
            settings,
            windows=models[0].windows,
            device=device,
            probabilities=Probabilities() if self.probabilities else None,
            uncertainty=self.uncertainty,
        )
        if failed := out.predict_all(out.survey(cases), stream):
            raise ValueError(f"{len(failed)} cases of fold {fold} cannot be segmented: {'; '.join(failed.values())}")
        pairs = [(case.name, out.out / f"masks/{case.name}.nii.gz", case.label) for case in cases if case.label]
        with Progress("scores", stream=stream) as progress:
            scores = score_files(pairs, self.plan, self.scoring, report=progress)
        save_scores(scores, out.out, self.scoring)

    def pool(self, folds: Sequence[int]) -> dict[str, Any]:
        """Gathers the masks and scores of some folds, and writes masks/, metrics.csv, summary.json and report.html.

        Returns:
            The summary, see `intervals.summarise_with_intervals`; `by_fold` has the means of each fold.

        Raises:
            ValueError: a fold is not finished, or a case is held out by several folds.
        """
        if lacking := [fold for fold in folds if not self.is_scored(fold)]:
            raise ValueError(
                f"fold {', '.join(map(str, lacking))} of {self.root} is not finished: run it with --fold, or choose "
                "others with --folds"
            )
        owners: dict[str, int] = {}
        for fold in folds:
            for case in self.data.split(fold)[1]:
                if owners.setdefault(case.name, fold) != fold:
                    raise ValueError(
                        f"the case {case.name} is held out by the folds {owners[case.name]} and {fold}: pooled scores "
                        "count each case once, so choose folds without a common case (--folds)"
                    )
        by_fold = {fold: read_scores(self.folder(fold) / "held_out/metrics.json") for fold in folds}
        scores = [score for fold in folds for score in by_fold[fold]]
        summary: dict[str, Any] = dict(config=self.settings["config"], folds=list(folds))
        unsure = read_uncertainty({name: self.folder(fold) / "held_out/masks" for name, fold in owners.items()})
        summary |= summarise_with_intervals(scores, self.scoring, self.cfg.get("patient"), unsure)
        summary["by_fold"] = {fold: _means(found) for fold, found in by_fold.items()}
        summary["never_held_out"] = [case.name for case in self.data.cases if case.name not in owners]
        with whole_folder(self.root / "masks") as part:
            for name, fold in owners.items():
                shutil.copyfile(self.folder(fold) / f"held_out/masks/{name}.nii.gz", part / f"{name}.nii.gz")
        rows = [dict(fold=owners[score.case]) | vars(score) for score in scores]
        save_csv(self.root / "metrics.csv", rows)
        save_json(self.root / "study.json", self._describe(folds))
        self._save_page(scores, summary, unsure, folds)
        save_json(self.root / "summary.json", summary)
        return summary

    def _save_page(
        self,
        scores: Sequence[Score],
        summary: Mapping[str, Any],
        uncertainty: Mapping[str, Mapping[str, float]],
        folds: Sequence[int],
    ) -> None:
        """Writes `report.html` on the pooled scores."""
        masks = self.root / "masks"
        pairs = [
            Pair(case.name, masks / f"{case.name}.nii.gz", case.label, case.images[0])
            for fold in folds
            for case in self.data.split(fold)[1]
            if case.label
        ]
        title = f"Cross-validation of {self.settings['config']}, folds {', '.join(map(str, folds))}"
        save_evaluation_page(
            self.root,
            pairs,
            scores,
            summary,
            self.plan,
            title=title,
            command_line=shlex.join(["python", *sys.argv]),
            uncertainty=uncertainty,
            warn=lambda line: print(f"warning: {line}", file=sys.stderr),
            tables=("metrics.csv", "summary.json"),
        )

    def _describe(self, folds: Sequence[int]) -> dict[str, Any]:
        """Returns the content of `study.json`: the networks, and the truth, fold and patient of each case."""
        pattern = self.cfg.get("patient")
        records = {fold: read_json(self.folder(fold) / "trained.json") for fold in folds}
        checkpoints = [
            dict(file=f"fold_{fold}/{record['checkpoint']}", sha256=record["sha256"])
            for fold, record in records.items()
        ]
        cases = [
            dict(name=case.name, fold=fold, patient=patient_of(case.name, pattern), label=str(case.label))
            for fold in folds
            for case in self.data.split(fold)[1]
        ]
        return dict(model=predicting(self.cfg.model.to_dict()), checkpoints=checkpoints, cases=cases)


def read_scores(path: Path) -> list[Score]:
    """Reads the scores of a `metrics.json`.

    Raises:
        ValueError: the file holds other things.
    """
    content = read_json(path)
    try:
        return [Score(**{field.name: row[field.name] for field in fields(Score)}) for row in content["scores"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no scores of cases ({error!r})") from None


def _means(scores: Sequence[Score]) -> Mapping[str, Any]:
    """Returns the number of cases and the means of some scores."""
    summary = summarise(scores)
    return dict(cases=summary["cases"]) | summary["mean"]
