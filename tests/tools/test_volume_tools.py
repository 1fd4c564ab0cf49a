"""Commands for volumes, through their command lines: predict, evaluate; and what is wrong said in one sentence."""

import csv
import errno
import json
import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from nifti_files import affine, write_nifti

from vil_dense.backbones.memory import GIB
from vil_dense.mm.engine.resolve_config import resolve_plan

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("VIL_DENSE_DATA", ROOT / "../shared/data"))
CONFIG = """
_base_ = ["{base}"]
plan = dict(
    channels={channels},
    labels=dict(background=0, organ=1),
    orientation="RAS",
    spacing_mm={spacing},
    patch_vox={patch},
    intensity=[dict(rule="zscore")] * {count},
)
model = dict(
    type="VolumeSegmentor",
    network=dict(type="ViLUNet3D", channels=(8, 8), depths=(0, 1), deep_supervision=1),
)
"""


def config(folder: Path, channels: int = 1, spacing: tuple = (1.0, 1.0, 1.0), patch: tuple = (16, 16, 8)) -> Path:
    path = folder / f"config_{channels}.py"
    base = ROOT / "configs/_base_/volumes_runtime.py"
    names = [f"channel {number}" for number in range(channels)]
    path.write_text(CONFIG.format(base=base, channels=names, spacing=spacing, patch=patch, count=channels))
    return path


def weights(path: Path, seed: int = 0) -> Path:
    """A checkpoint of a config's model, as it begins."""
    cfg = Config.fromfile(path)
    resolve_plan(cfg)
    torch.manual_seed(seed)
    checkpoint = path.with_suffix(f".{seed}.pth")
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), checkpoint)
    return checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    path = config(tmp_path_factory.mktemp("config"))
    return path, weights(path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """Runs a tool in this process: its exit code, and what it wrote to stdout and stderr."""

    def call(tool: str, *args: object) -> tuple[int, str, list[str]]:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", [f"tools/{tool}.py", *map(str, args)])
        capsys.readouterr()
        code = 0
        try:
            runpy.run_path(f"tools/{tool}.py", run_name="__main__")
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return code, said.out, said.err.splitlines()

    return call


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for seed, name in enumerate("ab"):
        voxels = np.random.default_rng(seed).integers(0, 99, (17, 12, 9)).astype(np.int16)
        write_nifti(tmp_path / f"images/{name}.nii.gz", voxels, affine("LAS", (0.9, 1.1, 2.0)))
    return tmp_path / "images"


def test_a_warning_for_each_device(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """A large volume on a GPU: there the network and, where they fit, the scores; the rest on the CPU."""
    from vil_dense.medical.inference import volume_memory

    expected = volume_memory.Estimate(0, 1, 1, 1, windows=GIB, gpu=3 * GIB)
    monkeypatch.setattr(volume_memory, "estimate", lambda *inputs: expected)
    free = dict(cpu=2 * GIB, cuda=4 * GIB)
    monkeypatch.setattr("vil_dense.backbones.memory.free_memory", free.get)
    say = runpy.run_path(str(ROOT / "tools/volumes/predict.py"))["describe_survey"]
    grid = SimpleNamespace(shape=(9, 9, 9))
    survey = SimpleNamespace(todo=[1], cases=[1], largest=lambda plan: grid, windows=dict(a=1))
    say(survey, [SimpleNamespace(plan={}, windows=None)], "cuda")
    said = capsys.readouterr()
    assert said.err == "warning: 4.0 GiB are free on the GPU\n"
    assert said.out.endswith("two fifths for overhead); about 4.2 GiB beside the weights on the GPU\n")


def test_from_images_to_masks_to_scores(trained: tuple[Path, Path], images: Path, tmp_path: Path, run) -> None:
    path, checkpoint = trained
    second = weights(path, seed=1)
    out, options = tmp_path / "out", ["--mirror", "--largest", "--probabilities"]
    code, said, _ = run("volumes/predict", path, checkpoint, second, images, "--out", out, *options)
    assert code == 0 and said.splitlines()[-1] == f"2 of 2 volumes segmented in {out}"
    assert "memory: about " in said and "peak memory: " in said and "ETA 0:00:00" in said
    mask, image = nibabel.load(out / "masks/a.nii.gz"), nibabel.load(images / "a.nii.gz")
    assert mask.shape == image.shape and (mask.affine == image.affine).all()
    settings = json.loads((out / "settings.json").read_text())
    assert len(set(settings["checkpoints"])) == 2 and settings["mirror"] is True and settings["overlap"] == 0.5
    code, said, _ = run("volumes/predict", path, checkpoint, second, images, "--out", out, *options)
    assert code == 0 and "2 of 2 cases are there already" in said

    code, said, _ = run("volumes/evaluate", path, out / "masks", out / "masks", "--out", tmp_path / "scores")
    assert code == 0 and "mean: Dice 1, HD95 0 mm, NSD 1" in said
    with (tmp_path / "scores/metrics.csv").open() as file:
        assert [(row["case"], row["structure"], row["dice"]) for row in csv.DictReader(file)] == [
            ("a", "organ", "1"),
            ("b", "organ", "1"),
        ]
    assert json.loads((tmp_path / "scores/metrics.json").read_text())["mean"]["dice"] == 1
    for options, tolerance_mm in (("--cfg-options test_evaluator.tolerance_mm=2.5", 2.5), ("--tolerance-mm 3", 3.0)):
        where = tmp_path / f"scores_{tolerance_mm}"
        code, _, _ = run("volumes/evaluate", path, out / "masks", out / "masks", "--out", where, *options.split())
        assert code == 0 and json.loads((where / "metrics.json").read_text())["nsd_tolerance_mm"] == tolerance_mm


def test_a_data_list(trained: tuple[Path, Path], images: Path, tmp_path: Path, run) -> None:
    """One fold of it is predicted, and scored against its labels."""
    truth = (np.random.default_rng(0).random((17, 12, 9)) < 0.5).astype(np.uint8)
    for name in "ab":
        write_nifti(tmp_path / f"labels/{name}.nii.gz", truth, affine("LAS", (0.9, 1.1, 2.0)))
    entries = [
        dict(image=f"images/{name}.nii.gz", label=f"labels/{name}.nii.gz", fold=fold) for fold, name in enumerate("ab")
    ]
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps(dict(training=entries)))
    choice = ["--section", "training", "--fold", "1"]
    code, said, _ = run("volumes/predict", *trained, listed, "--out", tmp_path / "out", *choice)
    assert code == 0 and "1 of 1 volumes segmented" in said
    masks = tmp_path / "out/masks"
    code, said, _ = run("volumes/evaluate", trained[0], masks, listed, "--out", tmp_path / "scores", *choice)
    assert code == 0 and "1 cases scored" in said
    code, _, error = run("volumes/evaluate", trained[0], masks, listed, "--out", tmp_path / "more")
    assert code == 2 and error[-1] == f"error: no mask for {tmp_path / 'labels/a.nii.gz'} in {masks}"
    assert not (tmp_path / "more").exists()


REAL = {
    "spleen": ("sub-spleen2_ct.nii.gz", "sub-spleen2_ct_seg-manual.nii.gz", (4.0, 4.0, 5.0)),
    "cord": ("sct_t1/t1w.nii.gz", "sct_t1/t1w_seg-manual.nii.gz", (3.0, 3.0, 3.0)),
    "grey matter": ("sct_t2s/t2s.nii.gz", "sct_t2s/t2s_gmseg_manual.nii.gz", (1.0, 1.0, 7.5)),
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.filterwarnings("ignore::UserWarning:monai", "ignore:.* instance named of .* has been created:UserWarning")
def test_real_volumes(name: str, tmp_path: Path, run) -> None:
    """From two folders to a plan, a training of two steps, masks, scores and a bundle."""
    image, label, spacing = REAL[name]
    image, label = DATA / "volumes" / image, DATA / "volumes" / label
    if not image.is_file():
        pytest.skip(f"no real volumes: {image} is missing (VIL_DENSE_DATA)")
    for folder, source in (("images", image), ("labels", label)):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "a.nii.gz").symlink_to(source)
    plan, work = tmp_path / "plan.json", tmp_path / "work"
    small = ["network.channels=(8,8)", "network.depths=(0,1)", "network.deep_supervision=1", "batch_size=1"]
    chosen = [f"spacing_mm={spacing}".replace(" ", ""), "patch_vox=(32,32,16)", *small]
    code, said, error = run("volumes/plan", tmp_path / "data", "--out", plan, "--set", *chosen)
    assert code == 0 and said.splitlines()[-1] == f"plan: {plan}", error
    values = [f"data_root={tmp_path / 'data'}", f"plan={plan}", "fold=None", "model.overlap=0.0"]
    values += ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "default_hooks.logger.interval=1"]
    config = "configs/vil_unet3d_volumes.py"
    code, said, error = run("train", config, "--work-dir", work, "--cfg-options", *values)
    assert code == 0 and "result: Dice " in said, error
    plan.unlink()  # the run has it
    own = work / "vil_unet3d_volumes.py"
    code, _, error = run("volumes/predict", own, work / "iter_2.pth", image, "--out", tmp_path / "out")
    assert code == 0, error
    (mask,) = (tmp_path / "out/masks").iterdir()
    code, said, error = run("volumes/evaluate", own, mask, label, "--out", tmp_path / "scores")
    assert code == 0 and "1 cases scored" in said, error
    source, written = nibabel.load(image), nibabel.load(mask)
    assert written.shape == source.shape and (written.affine == source.affine).all()
    code, said, _ = run("volumes/evaluate", own, label, label, "--out", tmp_path / "truth")
    assert code == 0 and "mean: Dice 1, HD95 0 mm, NSD 1" in said
    code, said, error = run("volumes/export_bundle", work, "--out", tmp_path / "bundle")
    assert code == 0 and "bundle written to " in said, error


def nan(path: Path) -> None:
    write_nifti(path, np.where(np.eye(6)[..., None], np.nan, 1.0) * np.ones((6, 6, 6)))


def infinite(path: Path) -> None:
    write_nifti(path, np.full((6, 6, 6), np.inf))


def four_axes(path: Path) -> None:
    write_nifti(path, np.zeros((6, 6, 6, 5), dtype=np.uint8))


def two_axes(path: Path) -> None:
    write_nifti(path, np.zeros((6, 6), dtype=np.uint8))


def singular(path: Path) -> None:
    write_nifti(path, np.zeros((6, 6, 6), dtype=np.uint8))
    content = bytearray(path.read_bytes())
    content[252:256] = np.array((0, 1), dtype="<i2").tobytes()  # no qform, an sform
    content[280:328] = np.ones(12, dtype="<f4").tobytes()
    path.write_bytes(content)


def cut(path: Path) -> None:
    packed = path.with_suffix(".nii.gz")
    write_nifti(packed, np.random.default_rng(0).integers(0, 99, (30, 30, 30)).astype(np.int16))
    packed.write_bytes(packed.read_bytes()[:9000])


def claims_more(path: Path) -> None:
    write_nifti(path, np.zeros((6, 6, 6), dtype=np.uint8))
    content = bytearray(path.read_bytes())
    content[42:48] = np.array((512, 512, 600), dtype="<i2").tobytes()
    path.write_bytes(content)


BAD = {
    nan: "bad.nii has 36 voxels",
    infinite: "bad.nii has 216 voxels",
    four_axes: "bad.nii is 4D, 6 x 6 x 6 x 5 voxels: an image of 1 channel was expected",
    two_axes: "bad.nii is 2D, 6 x 6 voxels: a volume with three axes was expected",
    singular: "bad.nii has a singular affine: its header gives the voxels no place or size in mm",
    cut: "bad.nii.gz is cut off or damaged (Compressed file ended before the end-of-stream marker was reached)",
    claims_more: (
        "bad.nii is cut off: its header claims 512 x 512 x 600 voxels, 157,286,400 bytes, and the file has 568"
    ),
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_images_that_are_refused(make, trained: tuple[Path, Path], tmp_path: Path, run) -> None:
    folder = tmp_path / "in"
    make(folder / "bad.nii")
    code, said, error = run("volumes/predict", *trained, folder, "--out", tmp_path / "out")
    assert code == 1 and said.splitlines()[-1] == f"0 of 1 volumes segmented in {tmp_path / 'out'}"
    assert error[-1] == f"error: 1 of 1 volumes were not: {folder}/{BAD[make]}"
    assert not any("Traceback" in line for line in error) and not (tmp_path / "out").exists()


def test_a_missing_channel(images: Path, tmp_path: Path, run) -> None:
    path = config(tmp_path, channels=2)
    code, _, error = run("volumes/predict", path, weights(path), images / "a.nii.gz", "--out", tmp_path / "out")
    sentence = f"{images / 'a.nii.gz'} and the other files of its image hold 1 of 2 channels"
    assert code == 1 and error[-1] == f"error: 1 of 1 volumes were not: {sentence}"
    assert not (tmp_path / "out").exists()


def test_a_full_disk(trained: tuple[Path, Path], images: Path, tmp_path: Path, run, monkeypatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(nibabel, "save", full)
    out = tmp_path / "out"
    code, _, error = run("volumes/predict", *trained, images, "--out", out)
    sentence = f"error: {out / 'masks/a.nii.gz'} could not be written: No space left on device"
    assert code == 1 and error[-1] == sentence and "Traceback" not in "".join(error)
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["settings.json"]


@pytest.mark.parametrize("make", ["fraction", "range", "grid", "shape", "truncated"])
def test_labels_that_are_refused(make: str, trained: tuple[Path, Path], tmp_path: Path, run) -> None:
    voxels = np.random.default_rng(0).integers(0, 2, (20, 20, 20)).astype(np.float32)
    mask = write_nifti(tmp_path / "mask/a.nii.gz", voxels)
    path = tmp_path / "label/a.nii.gz"
    voxels = voxels[1:] if make == "shape" else voxels
    voxels[2, 2, 2] = dict(fraction=0.5, range=3).get(make, 0)
    write_nifti(path, voxels, affine("LPS" if make == "grid" else "RAS"))
    if make == "truncated":
        path.write_bytes(path.read_bytes()[:-500])
    sentence = dict(
        fraction=f"{path} holds 0.5, and a label is an integer",
        range=f"{path} holds the label 3; known are 0, 1",
        grid=f"{mask} and {path} are not on one grid: they lie up to 38 mm apart",
        shape=f"{mask} and {path} are not on one grid: 20 x 20 x 20 and 19 x 20 x 20 voxels",
        truncated=f"{path} is cut off or damaged (Compressed file ended before the end-of-stream marker was reached)",
    )[make]
    code, _, error = run("volumes/evaluate", trained[0], mask.parent, path.parent, "--out", tmp_path / "scores")
    assert code == 2 and error[-1] == f"error: {sentence}"
    assert not (tmp_path / "scores").exists()


def test_what_else_is_refused(trained: tuple[Path, Path], images: Path, tmp_path: Path, run) -> None:
    path, checkpoint = trained

    def sentence(*args: object) -> str:
        code, _, error = run("volumes/predict", *args, "--out", tmp_path / "out")
        assert code == 2 and not (tmp_path / "out").exists()
        return error[-1]

    assert sentence("none.py", checkpoint, images) == "error: no config at none.py"
    assert sentence(path, "none.pth", images) == "error: no checkpoint at none.pth"
    assert sentence(path, checkpoint, "nowhere") == "error: no volume, folder or data list at nowhere"
    (tmp_path / "empty").mkdir()
    assert sentence(path, checkpoint, tmp_path / "empty").startswith(
        f"error: no volumes in {tmp_path / 'empty'} (searched"
    )
    wider = config(tmp_path, channels=2)
    assert sentence(wider, checkpoint, images).startswith(f"error: {checkpoint} is a checkpoint of another model")
    pictures = "configs/vil_upernet_sample.py"
    expected = f"{pictures} segments no volumes: its model is a EncoderDecoder, not a VolumeSegmentor"
    assert sentence(pictures, checkpoint, images).endswith(expected)


def test_a_checkpoint_that_would_run_code(trained: tuple[Path, Path], images: Path, tmp_path: Path, run) -> None:
    trap = type("Trap", (), {"__reduce__": lambda self: (exec, (f"open({str(tmp_path / 'sprung')!r}, 'w')",))})()
    torch.save(dict(state_dict=trap), tmp_path / "trap.pth")
    code, _, error = run("volumes/predict", trained[0], tmp_path / "trap.pth", images, "--out", tmp_path / "out")
    assert code == 2 and "was refused: it holds exec, and loading that could run code" in error[-1]
    assert not (tmp_path / "sprung").exists() and not (tmp_path / "out").exists()


@pytest.fixture
def trained_run(tmp_path: Path) -> Path:
    """A work folder as a training leaves it."""
    folder = tmp_path / "work"
    folder.mkdir()
    cfg = Config.fromfile(ROOT / "configs/volumes/vil-unet3d_2500_hippocampus.py")
    cfg.plan.patch_vox = (16, 16, 16)
    cfg.plan.network = dict(channels=(8, 8), depths=(0, 1), deep_supervision=1)  # as the plan step leaves it
    cfg.model.network = dict(type="ViLUNet3D")
    cfg.model.update(overlap=0.25, window_batch=4)
    cfg.dump(folder / "vil-unet3d_2500_hippocampus.py")
    weights(folder / "vil-unet3d_2500_hippocampus.py").rename(folder / "iter_4.pth")
    (folder / "last_checkpoint").write_text("/elsewhere/work/iter_4.pth")
    (folder / "validation").mkdir()
    (folder / "validation/metrics.json").write_text(json.dumps(dict(mean=dict(dice=0.75, hd95_mm=2.5, nsd=None))))
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning:monai")
def test_a_run_becomes_a_bundle(trained_run: Path, tmp_path: Path, run) -> None:
    import monai.bundle

    out = tmp_path / "bundle"
    code, said, error = run("volumes/export_bundle", trained_run, "--out", out)
    assert code == 0, error
    assert said.splitlines()[-1] == f"bundle written to {out}" and "TorchScript for windows of 16 x 16 x 16" in said
    parser = monai.bundle.ConfigParser()
    parser.read_config(out / "configs/inference.json")
    network = parser.get_parsed_content("network_def")
    assert (parser["inferer"]["overlap"], parser["inferer"]["window_batch"]) == (0.25, 4), "the run's windows"
    own = torch.load(trained_run / "iter_4.pth", weights_only=True)["state_dict"]
    state = torch.load(out / "models/model.pt", weights_only=True)
    network.load_state_dict(state)
    assert all(torch.equal(value, own[f"network.{name}"]) for name, value in state.items())
    card = (out / "docs/README.md").read_text()
    assert "Segments Anterior, Posterior in MRI." in card and "iter_4.pth" in card and "- dice: 0.75" in card
    assert json.loads((out / "configs/metadata.json").read_text())["eval_metrics"]["hd95_mm"] == 2.5
    assert (out / "LICENSE").read_text().strip().startswith("Apache License")
    parser.read_config(out / "configs/train.json")
    assert parser["fold"] == 0 and parser["train"]["dataset"]["transform"]["flip_axes"] == [0, 2]
    assert parser["validate"]["inferer"]["overlap"] == 0.25
    code, _, error = run("volumes/export_bundle", trained_run, "--out", out)
    assert code == 2 and error[-1] == f"error: {out} is not empty: a bundle needs a folder of its own"


def test_runs_that_are_refused(trained_run: Path, tmp_path: Path, run) -> None:
    def sentence(*args: object) -> str:
        code, _, error = run("volumes/export_bundle", *args, "--out", tmp_path / "bundle")
        assert code == 2 and not (tmp_path / "bundle").exists()
        return error[-1]

    assert sentence("nowhere") == "error: no run at nowhere"
    expected = f"error: {tmp_path} is no work folder of a training: one config is expected in it, got 0"
    assert sentence(tmp_path) == expected
    (trained_run / "last_checkpoint").unlink()
    assert sentence(trained_run).endswith("has no last_checkpoint: train first, or name one with --checkpoint")
    (trained_run / "cut.pth").write_bytes((trained_run / "iter_4.pth").read_bytes()[:4000])
    assert sentence(trained_run, "--checkpoint", trained_run / "cut.pth").endswith(
        "is truncated, damaged or no checkpoint"
    )
    other = weights(config(trained_run.parent))
    assert "is a checkpoint of another model" in sentence(trained_run, "--checkpoint", other)
