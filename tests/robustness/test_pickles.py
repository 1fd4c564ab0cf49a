"""Tests files that would run code when they are unpickled, wherever a command reads one: nothing of them runs."""

import shutil
import warnings
from pathlib import Path

import pytest

pytest.importorskip("mmseg", reason="mmsegmentation is missing: pip install '.[seg]'")
pytest.importorskip("monai", reason="MONAI is missing: pip install '.[medical]'")
import torch
from bad_data import PLAN, write_data
from bad_inputs import write_sound
from mmengine.fileio import PickleHandler, YamlHandler
from mmengine.fileio.handlers.registry_utils import file_handlers
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_local
from pickle_formats import FORMATS, SPRINGS, plain_pickle, zip_pickle
from pickle_trap import Trap
from run_command import ROOT, run_command

PRETRAINED = "model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint"
CLASS_WEIGHT = "model.decode_head.loss_decode.class_weight"
TRAIN = "train {d}/config.py --work-dir {out} --cfg-options"
VOLUMES = "volumes/predict {d}/volumes.py"
CLASSIFIER = "model.dim=32 model.depth=2 model.grid=(4,4) model.num_classes=2"
PICTURES = "train_dataloader.dataset.data_root={folder}"
KINDS = {".npy": ["array"], ".npz": ["arrays"], ".yaml": ["yaml"], ".yml": ["yaml"], ".old": ["plain"]}


"""Kinds of traps by the ending of a file; all other endings get the three kinds of pickles."""


# Each command reads a file of ours, {trap}, under every name that it takes.
PLACES = {
    "load_from": (f"{TRAIN} load_from={{trap}}", ".pth .pkl .npy"),
    "load_from with resume": (f"{TRAIN} resume=True load_from={{trap}}", ".pth"),
    "init_cfg": (f"{TRAIN} {PRETRAINED}={{trap}}", ".th .safetensors"),
    "init_cfg of the model": (f"{TRAIN} model.init_cfg.type=Pretrained model.init_cfg.checkpoint={{trap}}", ".pth"),
    "class_weight": (f"{TRAIN} {CLASS_WEIGHT}={{trap}}", ".pkl .pickle .npy .yaml"),
    "list of pictures": (f"{TRAIN} train_dataloader.dataset.ann_file={{trap}}", ".txt .pkl"),
    "test": ("test {d}/config.py {trap} --work-dir {out}", ".pth .th .pkl .safetensors"),
    "predict, checkpoint": (
        "predict {d}/config.py {trap} {d}/sample/images/validation --out {out}",
        ".pth .safetensors",
    ),
    "predict, published": ("predict {trap} {d}/sample/images/validation --out {out}", ".safetensors"),
    "publish": ("publish_model {d}/config.py {trap} --out {out}/a.safetensors", ".pth .safetensors"),
    "predict, picture": ("predict {d}/config.py {d}/good.pth {trap} --out {out}", ".png .jpg .npy .tif"),
    "convert": ("model_converters/convert_checkpoint {trap} {out}/a.pth", ".th .pth .safetensors"),
    "volumes, checkpoint": (f"{VOLUMES} {{trap}} {{d}}/case.nii.gz --out {{out}}", ".pth"),
    "volumes, volume": (f"{VOLUMES} {{d}}/volumes.pth {{trap}} --out {{out}}", ".nii .nii.gz .npy .npz"),
    "volumes, list": (f"{VOLUMES} {{d}}/volumes.pth {{trap}} --out {{out}}", ".json"),
    "volumes, plan": (
        f"{VOLUMES} {{d}}/volumes.pth {{d}}/case.nii.gz --out {{out}} --cfg-options plan={{trap}}",
        ".json .pkl",
    ),
    "volumes, choice": ("volumes/predict --best {trap} {d}/case.nii.gz --out {out}", ".json .pkl"),
    "volumes, labels": ("volumes/evaluate {d}/volumes.py {d}/case.nii.gz {trap} --out {out}", ".nii.gz .json"),
    "plan, list": ("volumes/plan {d} --datalist {trap} --out {out}/plan.json", ".json .pkl"),
    "bundle": ("volumes/export_bundle {d}/run --checkpoint {trap} --out {out}", ".pth .pt"),
    "probe": (
        f"studies/probe configs/vil_imagenet.py {{trap}} --work-dir {{out}} --cfg-options {CLASSIFIER}",
        ".pth .th .safetensors",
    ),
    "compare": ("volumes/compare {trap} {trap} --out {out}/a.csv", ".csv"),
    "flops": (
        f"analysis/get_flops {{d}}/config.py --work-dir {{out}} --cfg-options {CLASS_WEIGHT}={{trap}}",
        ".pkl .yaml",
    ),
}


# Each command reads a folder with a file of ours in it.
FOLDERS = {
    "plot": ("analysis/plot_runs --group a {folder} --out {out}", "vis_data/scalars.json"),
    "crops, picture": ("dataset_converters/make_crops --source {folder} --out {out}", "images/train/b.jpg"),
    "crops, label": ("dataset_converters/make_crops --source {folder} --out {out}", "annotations/train/b.png"),
    "batch": (
        f"browse_dataset configs/vil_imagenet.py --out {{out}} --cfg-options {PICTURES}",
        "train/a/b.jpg",
    ),
    "masks": ("volumes/evaluate {d}/volumes.py {folder} {d}/case.nii.gz --out {out}", "case.nii.gz"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    write_sound(folder)
    (folder / "run").mkdir()
    shutil.copy(folder / "volumes.py", folder / "run")
    return folder


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restores MMEngine's own loaders, as a new process has them; commands of earlier tests have replaced them."""
    handlers = dict(pkl=PickleHandler(), pickle=PickleHandler(), yml=YamlHandler(), yaml=YamlHandler())
    for suffix, handler in handlers.items():
        monkeypatch.setitem(file_handlers, suffix, handler)
    monkeypatch.setattr(CheckpointLoader, "_schemes", dict.fromkeys(CheckpointLoader._schemes, load_from_local))


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path / "sprung")


@pytest.fixture
def command(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """Returns a function that runs a command line: its exit code and the end of stderr."""

    def run(line: str) -> tuple[int, str]:
        code = run_command(line, monkeypatch)
        return code, (capsys.readouterr().err.splitlines() or [""])[-1]

    return run


@pytest.mark.parametrize("kind", FORMATS)
def test_the_traps_spring(kind: str, trap: Trap, tmp_path: Path) -> None:
    """Tests that the traps of the other tests would run code."""
    path = tmp_path / "trap"
    path.write_bytes(FORMATS[kind](trap))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            SPRINGS[kind](path)
        except Exception as error:  # what os.mkdir gives may be no array
            assert trap.canary.exists(), error
    assert trap.canary.is_dir()


@pytest.mark.parametrize("place", PLACES)
def test_no_trap_springs(place: str, data: Path, trap: Trap, tmp_path: Path, command) -> None:
    line, suffixes = PLACES[place]
    for suffix in suffixes.split():
        for kind in KINDS.get(suffix, ["zip", "legacy", "plain"]):
            path, out = tmp_path / f"{kind}{suffix}", tmp_path / f"out_{kind}{suffix}"
            path.write_bytes(FORMATS[kind](trap))
            code, said = command(line.format(d=data, trap=path, out=out))
            assert not trap.canary.exists(), f"{path.name} ran in: {line}"
            assert code in (1, 2) and said.startswith("error: "), (path.name, code, said)


@pytest.mark.parametrize("place", FOLDERS)
def test_no_trap_in_a_folder_springs(place: str, data: Path, trap: Trap, tmp_path: Path, command) -> None:
    line, name = FOLDERS[place]
    for kind in ("zip", "legacy", "plain"):
        folder = tmp_path / kind
        if "crops" in place:
            write_data(folder)
            for part in ("images", "annotations"):
                (folder / part / "training").rename(folder / part / "train")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(FORMATS[kind](trap))
        code, said = command(line.format(d=data, folder=folder, out=tmp_path / f"out_{kind}"))
        assert not trap.canary.exists(), f"{name} ran in: {line}"
        assert code in (1, 2) and said.startswith("error: "), (kind, code, said)


def test_a_config_that_is_measured_runs_nothing(
    data: Path, trap: Trap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Tests `benchmark.py infer` of a config that names a file."""
    path, config = tmp_path / "weight.pkl", tmp_path / "config.py"
    path.write_bytes(plain_pickle(trap))
    loss = f"decode_head=dict(loss_decode=dict(class_weight={str(path)!r}))"
    config.write_text(f"_base_ = [{str(data / 'config.py')!r}]\nmodel = dict({loss})\n")
    line = f"benchmark/benchmark infer --config {config} --sizes 64x1 --contestants ours --out {tmp_path}/out"
    code, said = run_command(line, monkeypatch), capsys.readouterr().out
    assert not trap.canary.exists()
    assert code == 1 and "ValueError: a .pkl file was refused" in said


def test_every_tool_reads_configs_by_the_function_that_makes_it_safe() -> None:
    for path in (ROOT / "tools").rglob("*.py"):
        assert "Config.fromfile" not in path.read_text(), f"{path}: load_config of vil_dense.mm.cli.arguments does it"


def run_folder(path: Path, pointer: bytes) -> Path:
    """Makes a work folder whose `last_checkpoint` holds `pointer`."""
    path.mkdir()
    (path / "last_checkpoint").write_bytes(pointer)
    return path


def test_resuming_runs_nothing(data: Path, trap: Trap, tmp_path: Path, command) -> None:
    """Tests a trap in the file that the pointer names, and a pointer that is a pickle itself."""
    for number, pointer in enumerate((b"iter_2.pth", plain_pickle(trap), zip_pickle(trap))):
        folder = run_folder(tmp_path / f"run_{number}", pointer)
        (folder / "iter_2.pth").write_bytes(zip_pickle(trap))
        code, said = command(f"train {data}/config.py --resume --work-dir {folder}")
        assert not trap.canary.exists()
        assert code == 2 and f"{folder}/iter_2.pth" in said, said


@pytest.mark.parametrize("pointer", ["pth", "pickle"])
def test_exporting_the_last_checkpoint_runs_nothing(
    pointer: str, data: Path, trap: Trap, tmp_path: Path, command
) -> None:
    folder = run_folder(tmp_path / "run", b"/elsewhere/trap.pth" if pointer == "pth" else plain_pickle(trap))
    shutil.copy(data / "volumes.py", folder)
    (folder / "trap.pth").write_bytes(zip_pickle(trap))
    (folder / "validation").mkdir()
    (folder / "validation/metrics.json").write_bytes(plain_pickle(trap))
    code, said = command(f"volumes/export_bundle {folder} --out {tmp_path}/out")
    assert not trap.canary.exists() and code == 2 and said.startswith("error: "), said


@pytest.mark.parametrize("name", ["dataset.json", "splits_final.json", "list.json"])
def test_data_lists_run_nothing(name: str, data: Path, trap: Trap, tmp_path: Path, command) -> None:
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
        shutil.copy(data / "case.nii.gz", tmp_path / folder)
    (tmp_path / name).write_bytes(plain_pickle(trap))
    choice = "--datalist list.json" if name == "list.json" else ""
    code, said = command(f"volumes/plan {tmp_path} {choice} --out {tmp_path}/plan.json")
    assert not trap.canary.exists() and code == 2 and str(tmp_path / name) in said, said


def test_pictures_weights_of_a_volume_network_run_nothing(trap: Trap, tmp_path: Path) -> None:
    from vil_dense.mm.volumes import VolumeSegmentor

    network = dict(type="ViLUNet3D", channels=(8, 8), depths=(0, 1), deep_supervision=1)
    for kind in ("zip", "legacy", "plain"):
        path = tmp_path / f"{kind}.pth"
        path.write_bytes(FORMATS[kind](trap))
        with pytest.raises(ValueError, match=r"^[^\n]*(run code|whole)[^\n]*$"):
            VolumeSegmentor(PLAN, network, picture_weights=str(path))
        assert not trap.canary.exists()


def test_a_config_in_a_checkpoint_is_not_run(data: Path, trap: Trap, tmp_path: Path, command) -> None:
    """Tests that `meta.config`, which MMEngine would run when a run is resumed, is not run; `meta.cfg` is read for
    the design it was trained with."""
    program = f"import os\nos.mkdir({str(trap.canary)!r})\nmodel = dict(type='ViL')\n"
    content = torch.load(data / "good.pth", weights_only=True)
    content["meta"] = dict(config=program, cfg=program, iter=0, epoch=0, experiment_name="x", seed=0)
    content["message_hub"] = dict(log_scalars={}, runtime_info={}, resumed_keys={})
    folder = run_folder(tmp_path / "run", b"iter_0.pth")
    checkpoint = folder / "iter_0.pth"
    torch.save(content, checkpoint)
    for line in (
        f"train {data}/config.py --resume --work-dir {folder}",
        f"train {data}/config.py --work-dir {tmp_path}/other --cfg-options {PRETRAINED}={checkpoint}",
        f"test {data}/config.py {checkpoint} --work-dir {tmp_path}/test",
    ):
        code, said = command(line)
        assert not trap.canary.exists(), line
        assert code == 0, (line, said)


def test_the_network_address_of_a_checkpoint_is_not_asked(data: Path, tmp_path: Path, command) -> None:
    for address in ("https://example.org/a.pth", "s3://bucket/a.pth", "modelzoo://resnet50", "open-mmlab://resnet50"):
        code, said = command(f"train {data}/config.py --work-dir {tmp_path} --cfg-options load_from={address}")
        assert code == 2 and said.startswith("error: ") and address in said, said
