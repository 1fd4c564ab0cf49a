"""Tests volumes on the Runner: patches, resuming, scores, and what is refused."""

import argparse
import csv
import json
import re
import runpy
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, METRICS
from mmengine.runner import Runner
from nifti_files import affine, write_nifti
from page_checks import check_page
from refusals import raises_one_line
from torch.utils.data import DataLoader
from volume_plans import small_plan

from vil_dense.backbones import VisionLSTM
from vil_dense.mm.datasets.seeding import KeyedInfiniteSampler
from vil_dense.mm.engine.failures import RunFault
from vil_dense.mm.engine.resolve.volumes import describe_fold, resolve_plan, scores_held_out
from vil_dense.mm.volumes import VolumeDataset, VolumeMetric, VolumeReportHook, VolumeSegmentor
from vil_dense.mm.volumes.segmentor import describe_network
from vil_dense.state_files import write_state
from vil_dense.synthetic.volumes import make_case, write_sample

ROOT = Path(__file__).parents[3]
# MMEngine keeps what it built under the name of the run, which in one process several runs share.
pytestmark = pytest.mark.filterwarnings("ignore:.* instance named of .* has been created:UserWarning")
PLAN = small_plan(
    *("liver", "spleen", "vessel", "gland"),
    channels=["CT"],
    spacing_mm=(2.0, 2.0, 5.0),
    patch_vox=(16, 16, 8),
    intensity=[dict(rule="ct", low=-100.0, high=300.0, mean=100.0, std=60.0)],
)


NAMES = dict(background=0, organ_2=1, organ_10=2, organ_1=3, a=4)
SMALL = dict(type="ViLUNet3D", channels=(4, 8), depths=(0, 1), deep_supervision=1)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("volumes") / "phantom", train=3, val=1)


def dataset(sample: Path, **options) -> VolumeDataset:
    return VolumeDataset(str(sample), PLAN, check_s=None, **options)


def test_two_workers_and_two_epochs_differ(sample: Path) -> None:
    """Tests random states: with those of the transforms, workers would repeat each other, and epochs the one before."""
    data = dataset(sample)
    loaders = [DataLoader(data, 1, sampler=KeyedInfiniteSampler(data, seed=3), num_workers=n) for n in (0, 2)]
    alone, together = ([next(rows)["image"] for _ in range(6)] for rows in map(iter, loaders))
    torch.testing.assert_close(alone, together, rtol=0, atol=0)
    keys = list(islice(KeyedInfiniteSampler(data, seed=3), 6))
    assert [key.epoch for key in keys] == [0, 0, 0, 1, 1, 1] and sorted(keys[:3]) == sorted(keys[3:]) == [0, 1, 2]
    for first in range(3):
        second = 3 + keys[3:].index(keys[first])
        assert not torch.equal(alone[first], alone[second]), "a case's patch differs between epochs"
    with raises_one_line(ValueError, "KeyedInfiniteSampler"):
        data[0]


def test_validation_cases_are_whole(sample: Path) -> None:
    """Tests that they are on the grid of the file, whose axes run to PSR."""
    (item,) = dataset(sample, train=False)
    assert item["image"].shape == (1, 64, 28, 72) and item["label"].shape == (64, 28, 72)
    assert item["name"] == "phantom_003" and item["image"].dtype == np.float32
    np.testing.assert_array_equal(item["affine"], nibabel.load(sample / "imagesTr/phantom_003.nii.gz").affine)


def test_windows_give_what_the_whole_gives() -> None:
    """Tests a network that sees single voxels; the data preprocessor leaves whole volumes alone."""
    model = VolumeSegmentor({**PLAN, "intensity": [dict(rule="range", low=0.0, high=1.0)]}, SMALL).eval()
    model.network = torch.nn.Conv3d(1, 5, 1)
    volume = np.random.default_rng(0).random((1, 19, 33, 9)).astype(np.float32)
    case = dict(name="x", image=volume, label=np.zeros((19, 33, 9), np.uint8), affine=affine("RAS", (2.0, 2.0, 5.0)))
    with torch.no_grad():
        (found,) = model.val_step(pseudo_collate([case]))
        expected = model.network(torch.from_numpy(volume)[None]).argmax(1)[0]
    assert found["name"] == "x" and found["spacing_mm"] == (2.0, 2.0, 5.0) and found["truth"] is case["label"]
    np.testing.assert_array_equal(found["prediction"], expected)


def test_metric_counts_missed_structures() -> None:
    metric = VolumeMetric(PLAN, classes=dict(liver=1, organs=[1, 2]))
    truth = torch.zeros(6, 6, 6, dtype=torch.uint8)
    truth[1:3] = 1
    found = dict(a=truth, b=truth * 0)
    samples = [dict(name=name, prediction=found[name], truth=truth, spacing_mm=(1, 1, 1)) for name in "ab"]
    metric.process(None, samples)
    assert metric.evaluate(2)["Dice"] == pytest.approx(0.5)
    assert [(score.case, score.structure, score.outcome) for score in metric.scores] == [
        ("a", "liver", "both"), ("a", "organs", "both"), ("b", "liver", "missed"), ("b", "organs", "missed"),
    ]  # fmt: skip


def test_picture_weights_start_the_blocks(tmp_path: Path) -> None:
    picture = VisionLSTM(dim=8, depth=2, patch_size=4, grid=(3, 3))
    write_state(picture.state_dict(), tmp_path / "vil.safetensors")
    model = VolumeSegmentor(PLAN, SMALL, picture_weights=str(tmp_path / "vil.safetensors"))
    block = model.network.stages[1].blocks[0]
    torch.testing.assert_close(block.layer.proj_up.weight, picture.blocks[0].layer.proj_up.weight)


def test_a_loss_without_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="needs labels"):
        VolumeSegmentor(PLAN, SMALL)(torch.zeros(1, 1, *PLAN["patch_vox"]), mode="loss")


def test_log_line_says_share_and_tokens() -> None:
    line = describe_network(VolumeSegmentor(PLAN, SMALL).network, PLAN["patch_vox"])
    assert line.startswith("network: ViLUNet3D, ") and line.endswith("a patch of 16x16x8: 512 at 1/(2x2x1) resolution")
    assert "% in sequence blocks" in line


def runner(sample: Path | str, work_dir: Path, *, resume: bool = False, **options) -> Runner:
    """Returns a runner as tools/train.py builds it from its arguments."""
    values = {
        "data_root": str(sample), "model.network.channels": (4, 8, 8), "model.network.depths": (0, 0, 2),
        "model.network.drop_path": 0.5,
        "model.overlap": 0.0, "model.window_batch": 8, "plan.patch_vox": (16, 16, 8), "train_cfg.max_iters": 4,
        "train_cfg.val_interval": 4, "default_hooks.checkpoint.interval": 2, "default_hooks.logger.interval": 1,
        **options,
    }  # fmt: skip
    args = argparse.Namespace(
        config=str(ROOT / "configs/vil_unet3d_sample.py"), work_dir=str(work_dir), cfg_options=values,
        launcher="none", local_rank=0, resume=resume, amp=True, deterministic=False, log_to=[],
    )  # fmt: skip
    return runpy.run_path(str(ROOT / "tools/train.py"))["build"](args)


def test_trains_validates_and_resumes_as_if_never_stopped(sample: Path, tmp_path: Path) -> None:
    """Tests stochastic depth, a cosine rate, and averaged weights, which are what is validated."""
    ema = dict(
        custom_hooks=[dict(type="StepSeedHook"), dict(type="VolumeReportHook"), dict(type="EMAHook", momentum=0.3)],
        param_scheduler=[dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=1)],
    )
    whole = runner(sample, tmp_path / "whole", **ema)
    whole.train()
    rows = list(csv.DictReader((tmp_path / "whole/validation/metrics.csv").read_text().splitlines()))
    assert [row["structure"] for row in rows] == ["liver", "spleen", "vessel", "gland"]
    assert json.loads((tmp_path / "whole/validation/metrics.json").read_text())["cases"] == 1
    page = check_page(tmp_path / "whole/report.html")
    assert "validation/metrics.csv" in [a["href"] for a in page.all("a")] and "HD95, mm" in page.text
    assert len(page.all("img")) == 1 and "limits of agreement" in page.text, "the last validation is drawn"
    label = next(svg["aria-label"] for svg in page.all("svg") if svg["aria-label"].startswith("Dice of the structures"))
    assert label.endswith("liver, spleen, vessel, gland"), "a curve for each structure"
    (tmp_path / "half").mkdir()
    (tmp_path / "whole/iter_2.pth").rename(tmp_path / "half/iter_2.pth")
    (tmp_path / "half/last_checkpoint").write_text(str(tmp_path / "half/iter_2.pth"))
    half = runner(sample, tmp_path / "half", resume=True, **ema)
    half.train()
    assert half.iter == 4
    rates = half.optim_wrapper.get_lr()
    assert rates == whole.optim_wrapper.get_lr() and 0 < rates["lr"][0] < 0.3 * 3e-3
    torch.testing.assert_close(half.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    for run in ("whole", "half"):
        assert "ema_state_dict" in torch.load(tmp_path / run / "iter_4.pth", weights_only=False)
    tables = [(tmp_path / run / "validation/metrics.csv").read_text() for run in ("whole", "half")]
    assert tables[0] == tables[1]


def test_the_page_of_a_run_that_stops_early_has_pictures(sample: Path, tmp_path: Path) -> None:
    early = dict(type="EarlyStoppingHook", monitor="Dice", rule="greater", patience=1, min_delta=1.0)
    values = {"default_hooks.early": early, "train_cfg.val_interval": 1, "train_cfg.max_iters": 9}
    run = runner(sample, tmp_path, **values)
    run.train()
    assert run.iter < 9
    assert len(check_page(tmp_path / "report.html").all("img")) == 1


def test_a_run_that_diverges_names_its_cases(sample: Path, tmp_path: Path) -> None:
    run = runner(sample, tmp_path, **{"optim_wrapper.optimizer.lr": 1e30, "param_scheduler": []})
    with raises_one_line(RunFault, "step 2", "nan", "none"):
        run.train()
    (report,) = json.loads((tmp_path / "faults/step_2.json").read_text())
    assert len(report["files"]) == 2 and all(name.startswith("phantom_") for name in report["files"])
    assert not list(tmp_path.glob("*.pth"))


def test_labels_are_checked_first(sample: Path, capsys) -> None:
    VolumeDataset(str(sample), PLAN)
    said = capsys.readouterr().out
    assert "labels of the training cases: 3 of 3 read, evenly spread" in said
    total, found = 3 * 72 * 64 * 28, sum(int((make_case(n)[1] == 4).sum()) for n in range(3))
    assert re.search(rf"    4  gland +{100 * found / total:.3f} +3\n", said) and "warning" not in said
    VolumeDataset(str(sample), PLAN, check_s=0.0)
    assert "labels of the training cases: 1 of 3 read, evenly spread" in capsys.readouterr().out


def test_one_class_alone_cannot_be_learned(tmp_path: Path, capsys) -> None:
    for name in "abcdef":
        for folder in ("images", "labels"):
            write_nifti(tmp_path / folder / f"{name}.nii.gz", np.zeros((8, 8, 8), np.uint8))
    plan = {**PLAN, "labels": dict(background=0, organ=1)}
    with raises_one_line(ValueError, "4 training cases"):
        VolumeDataset(str(tmp_path), plan)
    # Cases that were not read may hold others.
    for options in (dict(train=False), dict(check_s=0.0)):
        VolumeDataset(str(tmp_path), plan, **options)
        assert "warning: no voxel that was read is of organ" in capsys.readouterr().out


def test_all_cases_are_trained_on_and_none_is_scored(sample: Path, tmp_path: Path, capsys) -> None:
    run = runner(sample, tmp_path / "all", fold="all", **{"train_cfg.max_iters": 2})
    assert len(run.train_loop.dataloader.dataset) == 4 and run.val_loop is None
    run.train()
    said = capsys.readouterr().out
    assert "fold: all, every case is trained on" in said and "result: none, this run did not validate" in said
    check_page(tmp_path / "all/report.html")
    with raises_one_line(ValueError, "fold=all", "evaluate.py"):
        VolumeDataset(str(sample), PLAN, fold="all", train=False)
    with raises_one_line(ValueError, "'every'"):
        VolumeDataset(str(sample), PLAN, fold="every")


@pytest.mark.parametrize(
    ("options", "held_out"),
    [
        (dict(), True),
        (dict(fold=3), True),
        (dict(fold=None), False),
        (dict(fold="all"), False),
        ({"val_dataloader.dataset.fold": 2}, False),
        ({"fold": None, "val_dataloader.dataset.data_root": "other"}, True),
    ],
)
def test_a_score_of_training_cases_says_so(options: dict, held_out: bool, capsys) -> None:
    cfg = Config.fromfile(ROOT / "configs/vil_unet3d_sample.py")
    cfg.merge_from_dict(options)
    named = resolve_plan(cfg)
    line = describe_fold(cfg)
    assert scores_held_out(cfg) is held_out
    assert named.endswith(f", held-out fold: {cfg.fold}") is (held_out and cfg.fold is not None)
    assert ("warning" in line) is (cfg.fold is None and not held_out) and ("no score" in line) is (cfg.fold == "all")
    said = VolumeReportHook().result(SimpleNamespace(cfg=cfg), dict(Dice=0.5), "val")
    assert said.startswith("Dice 0.5000") and ("trained on" in said) is not held_out


def test_classes_keep_the_order_of_their_labels(sample: Path, tmp_path: Path) -> None:
    """Tests it also in the config that a run leaves, in which MMEngine sorts their names."""
    cfg = Config.fromfile(ROOT / "configs/vil_unet3d_sample.py")
    cfg.merge_from_dict({"plan.labels": dict(_delete_=True, **NAMES)})
    cfg.data_root = str(sample)
    resolve_plan(cfg)
    cfg.dump(tmp_path / "run.py")
    again = Config.fromfile(tmp_path / "run.py")
    resolve_plan(again)
    assert list(again.model.plan.labels) == list(NAMES)
    assert DATASETS.build(again.val_dataloader.dataset).metainfo["classes"] == tuple(NAMES)
    assert list(METRICS.build(again.val_evaluator).scoring.classes) == list(NAMES)[1:]


def test_bad_data_is_refused_before_the_first_step(sample: Path, tmp_path: Path) -> None:
    with raises_one_line(FileNotFoundError, "nowhere"):
        runner("nowhere", tmp_path)
    with raises_one_line(ValueError, "phantom_000", "4"):
        runner(sample, tmp_path, **{"plan.labels": dict(_delete_=True, background=0, a=1, b=2, c=3)})
