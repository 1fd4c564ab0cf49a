"""Trains configs on nested parts of the labels, and compares them by their metric against the number of labels.

Command: python tools/few_labels.py CONFIG [--with CONFIG ...] --work-dir D [--shares 1 5 10 25 100] [--seeds 3]

Draws the shares (in %) of the labelled cases, pictures or volumes, once for each seed, whole groups together where the
config names them (split_by of one's own pictures, patient of volumes), at least one case; a smaller share is within a
larger one. Trains every config on each, with the seed, one training after another; the validation cases stay the same.
A finished training is not repeated, an interrupted one resumes with the same command. All take the same number of
steps: those of their config, or --budget. The metric is that of the last step. After each training it writes to D:

  lists/             the cases of each share and seed
  runs.csv           a row for each training; cases.csv has its value of each case
  summary.md         mean and deviation over the seeds, and paired differences from CONFIG with 95 % intervals
  differences.csv    these differences
  labels.png         the metric against the number of labelled cases: means and seeds
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vil_dense.command_line import at_least, parser

if TYPE_CHECKING:
    from mmengine.config import Config

    from vil_dense.report.label_curve import Run

TRAIN = Path(__file__).parent / "train.py"
PICTURE_METRICS = ("mIoU", "mBIoU")
VOLUME_METRICS = {"Dice": "dice", "NSD": "nsd", "HD95": "hd95_mm"}
"""Metrics of volumes, as `VolumeMetric` logs them and as the tables of cases name them."""


class Labels(NamedTuple):
    """Describes the labelled cases of a config: the group of each by name, for training and for validation, and a
    function that writes a list of names to a path without ending and returns the options of a training with it."""

    train: Mapping[str, str]
    val: Mapping[str, str]
    write: Callable[[Path, list[str]], dict[str, Any]]


class Study(NamedTuple):
    """Describes a study: configs, their cases and steps by name, the cases of each share by seed, the metric."""

    configs: Mapping[str, str]
    labels: Mapping[str, Labels]
    steps: Mapping[str, int]
    draws: list[dict[float, list[str]]]
    metric: str


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    known = parser(__doc__)
    known.add_argument(
        "--with", dest="others", nargs="+", default=[], metavar="CONFIG", help="configs to compare with it"
    )
    known.add_argument(
        "--shares",
        nargs="+",
        type=at_least(0, float),
        default=[1, 5, 10, 25, 100],
        metavar="PERCENT",
        help="of the cases",
    )
    known.add_argument(
        "--seeds", type=at_least(1), default=3, metavar="N", help="draws, and trainings of each share (3)"
    )
    known.add_argument("--budget", type=at_least(1), metavar="STEPS", help="steps of every training (of the config)")
    known.add_argument(
        "--metric", choices=[*PICTURE_METRICS, *VOLUME_METRICS], help="default: mIoU, or Dice of volumes"
    )
    args = known.parse_args()
    if taken := {"randomness.seed", "resume", "train_cfg.max_iters"} & {*args.cfg_options}:
        known.error(
            f"argument --cfg-options: {', '.join(sorted(taken))} cannot be chosen; --seeds and --budget set them"
        )
    return args


def read(args: argparse.Namespace, config: str, work_dir: Path) -> "Config":
    """Reads a config with the overrides of the command line; its run would be in `work_dir`."""
    from vil_dense.mm.cli.arguments import read_config

    own = argparse.Namespace(**{**vars(args), "config": config, "work_dir": str(work_dir)})
    cfg = read_config(own)
    if not cfg.get("train_cfg") or not cfg.train_cfg.get("max_iters"):
        raise ValueError(f"{config} does not count its training in steps (train_cfg.max_iters)")
    return cfg


def picture_labels(cfg: "Config") -> Labels:
    """Returns the labelled pictures of a config."""
    from mmengine.registry import DATASETS

    from vil_dense.files import write_whole
    from vil_dense.mm.datasets.folders.split import group_of
    from vil_dense.mm.datasets.segmentation import CheckedDataset
    from vil_dense.mm.engine.resolve.pictures import resolve_pictures

    resolve_pictures(cfg)
    built = [DATASETS.build({**cfg[f"{split}_dataloader"].dataset, "pipeline": []}) for split in ("train", "val")]
    if wrong := [type(dataset).__name__ for dataset in built if not isinstance(dataset, CheckedDataset)]:
        raise ValueError(f"{cfg.filename} needs one data set of this package for training, got a {wrong[0]}")
    train, val = ([dataset.get_data_info(index) for index in range(len(dataset))] for dataset in built)
    of_pairs = [[pair.name for pair in getattr(dataset, "pairs", ())] for dataset in built]
    names = [built[0].name_of(entry) for entry in train]
    tested = [f"{built[1].name_of(entry)}{Path(entry['img_path']).suffix}" for entry in val]  # as in per_image.csv
    groups = [
        {name: group_of(own, cfg.get("split_by")) for name, own in zip(part, pairs or part, strict=True)}
        for part, pairs in zip((names, tested), of_pairs, strict=True)
    ]

    def write(path: Path, names: list[str]) -> dict[str, Any]:
        path = path.with_suffix(".txt").absolute()
        write_whole(path, lambda part: part.write_text("".join(f"{name}\n" for name in names), encoding="utf-8"))
        return {"train_dataloader.dataset.filter_cfg.names": str(path)}

    return Labels(groups[0], groups[1], write)


def volume_labels(cfg: "Config") -> Labels:
    """Returns the labelled volumes of the fold of a config."""
    from vil_dense.medical.datalists.datalist import read_datalist, write_datalist
    from vil_dense.medical.datalists.folds import patient_of
    from vil_dense.mm.engine.resolve.volumes import resolve_plan

    resolve_plan(cfg)
    fold, patient, root = cfg.get("fold", 0), cfg.get("patient"), Path(cfg.data_root)
    if not isinstance(fold, int):
        raise ValueError(f"a fold has to be held out to score on, got fold={fold!r}: set fold to a number")
    train, val = read_datalist(root, cfg.get("datalist"), patient=patient).split(fold)
    groups = [{case.name: patient_of(case.name, patient) for case in part} for part in (train, val)]

    def write(path: Path, names: list[str]) -> dict[str, Any]:
        path = path.with_suffix(".json").absolute()
        write_datalist(path, root, [case for case in train if case.name in names], val, fold)
        return dict(datalist=str(path))

    return Labels(groups[0], groups[1], write)


def read_run(folder: Path, metric: str) -> tuple[float, dict[str, float]]:
    """Returns the metric of a finished training and that of each case; those of pictures are in %."""
    if metric in VOLUME_METRICS:
        from vil_dense.medical.metrics import summarise
        from vil_dense.mm.volumes.cross_validation import read_scores

        scores = read_scores(folder / "validation/metrics.json")
        column = VOLUME_METRICS[metric]
        cases = {name: [score for score in scores if score.case == name] for name in {score.case for score in scores}}
        means = {name: summarise(own)["mean"][column] for name, own in sorted(cases.items())}
        value = summarise(scores)["mean"][column]
        return _number(value), {name: _number(own) for name, own in means.items()}
    from vil_dense.mm.visualization.result_files import read_result

    result = read_result(folder)
    names = [*result.pictures]
    return _number(result.facts["metrics"].get(metric)), dict(zip(names, result.values(metric, names), strict=True))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def labels_of(cfg: "Config", metric: str | None) -> tuple[Labels, str]:
    """Returns the labelled cases of a config and the metric that compares them, chosen or the usual one.

    Raises:
        ValueError: the config segments neither pictures nor volumes, or has not this metric.
    """
    volumes = cfg.model.type == "VolumeSegmentor"
    if not volumes and "decode_head" not in cfg.model:
        raise ValueError(f"{cfg.filename} trains a {cfg.model.type}, which segments neither pictures nor volumes")
    known = [*(VOLUME_METRICS if volumes else PICTURE_METRICS)]
    if metric not in (None, *known):
        raise ValueError(f"{cfg.filename} is compared by {' or '.join(known)}, got --metric {metric}")
    return volume_labels(cfg) if volumes else picture_labels(cfg), metric or known[0]


def save(root: Path, runs: "list[Run]", groups: Mapping[str, str], metric: str) -> None:
    """Writes the tables and the plot of the trainings that are finished."""
    from vil_dense.files import save_csv, write_whole
    from vil_dense.report.label_curve import difference_rows, markdown, save_plot

    common = [run._asdict() | dict(metric=metric) for run in runs]
    save_csv(root / "runs.csv", [{key: value for key, value in row.items() if key != "cases"} for row in common])
    keys = ("config", "share", "seed")
    by_case = [
        {key: getattr(run, key) for key in keys} | dict(case=case, value=None if value != value else value)
        for run in runs
        for case, value in run.cases.items()
    ]
    save_csv(root / "cases.csv", by_case)
    differences = difference_rows(runs, groups)
    if differences:
        save_csv(root / "differences.csv", differences)
    text = markdown(runs, differences, metric, 2 if metric in (*PICTURE_METRICS, "HD95") else 4)
    write_whole(root / "summary.md", lambda part: part.write_text(text, encoding="utf-8"))
    save_plot(root / "labels.png", runs, metric)


def prepare(args: argparse.Namespace, root: Path) -> Study:
    """Reads the configs and draws the labels; writes the settings of the study to its folder.

    Raises:
        ValueError: configs that cannot be compared, or a folder that holds another study.
    """
    from vil_dense.mm.cli.grids import check_settings, fingerprint, save_settings
    from vil_dense.mm.datasets.folders.split import draw_nested

    paths = [args.config, *args.others]
    configs = {Path(path).stem: path for path in paths}
    if len(configs) < len(paths):
        raise ValueError(f"configs need different names, got {', '.join(paths)}")
    labels, settings, metric = {}, {}, args.metric
    for name, path in configs.items():
        cfg = read(args, path, root / name)
        settings[root / name] = dict(sha256=fingerprint(cfg), steps=args.budget or cfg.train_cfg.max_iters)
        labels[name], metric = labels_of(cfg, metric)
        first = next(iter(labels.values()))
        for own, others in zip(first[:2], labels[name][:2], strict=True):
            if alone := sorted({*own} ^ {*others}):
                raise ValueError(
                    f"{args.config} and {path} have other cases: {len(alone)} are in one alone ({alone[0]})"
                )
    settings[root] = dict(train=dict(first.train), val=dict(first.val))
    for folder, own in settings.items():
        check_settings(folder, own, "trainings")
    draws = [draw_nested(first.train, sorted({*args.shares}), seed) for seed in range(args.seeds)]
    for folder, own in settings.items():
        save_settings(folder, own)
    return Study(configs, labels, {name: settings[root / name]["steps"] for name in configs}, draws, metric)


def run(args: argparse.Namespace, study: Study, root: Path) -> None:
    """Runs the trainings that are not finished, and writes the results after each."""
    from vil_dense.mm.cli.grids import as_options, train_once
    from vil_dense.report.label_curve import Run

    runs: list[Run] = []
    grid = [(seed, share, name) for seed, found in enumerate(study.draws) for share in found for name in study.configs]
    for number, (seed, share, name) in enumerate(grid, 1):
        names, steps = study.draws[seed][share], study.steps[name]
        own = study.labels[name].write(root / f"lists/seed_{seed}_share_{share:g}", names)
        own |= {"randomness.seed": seed, "default_hooks.checkpoint.save_best": None}
        own |= {f"train_cfg.{key}": steps for key in ("max_iters", "val_interval")}
        folder = root / name / f"share_{share:g}/seed_{seed}"
        train_once(TRAIN, study.configs[name], folder, as_options(args.cfg_options | own))
        runs.append(Run(name, share, seed, len(names), *read_run(folder, study.metric)))
        save(root, runs, next(iter(study.labels.values())).val, study.metric)
        found = f"{name}, {share:g} % ({len(names)} cases), seed {seed}, {study.metric} {runs[-1].value:.4g}"
        print(f"{number} of {len(grid)}: {found}", flush=True)


def main() -> int:
    args = arguments()

    from vil_dense.files import check_folders
    from vil_dense.mm.cli.arguments import report_errors

    root = Path(args.work_dir or f"work_dirs/{Path(args.config).stem}/few_labels")
    with report_errors(args.debug):
        check_folders(root)
        study = prepare(args, root)
    with report_errors(args.debug, code=1):
        run(args, study, root)
        print((root / "summary.md").read_text(encoding="utf-8"))
        print(f"tables and plot: {root}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
