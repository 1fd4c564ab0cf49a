"""Files that would run code when they are unpickled, in every place where a command reads one: nothing of them runs."""

import io
import os
import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmseg")
pytest.importorskip("monai")

import torch
import yaml
from bad_inputs import PLAN, write_sound
from run_command import run_command

pytestmark = pytest.mark.filterwarnings("ignore:.* instance named of .* has been created:UserWarning")


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def _zip(trap: Trap) -> bytes:
    """torch's format; a weight stands beside the trap."""
    file = io.BytesIO()
    torch.save(dict(state_dict=dict(weight=torch.zeros(2), trap=trap), meta=dict(trap=trap)), file)
    return file.getvalue()


def _legacy(trap: Trap) -> bytes:
    """torch's format before 1.6."""
    file = io.BytesIO()
    torch.save(dict(state_dict=dict(weight=torch.zeros(2), trap=trap)), file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def _plain(trap: Trap) -> bytes:
    return pickle.dumps(dict(state_dict=trap), protocol=2)


def _newest(trap: Trap) -> bytes:
    return pickle.dumps(trap, protocol=pickle.HIGHEST_PROTOCOL)


def _array(trap: Trap) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([trap], dtype=object), allow_pickle=True)
    return file.getvalue()


def _arrays(trap: Trap) -> bytes:
    file = io.BytesIO()
    np.savez(file, weight=np.array([trap], dtype=object))
    return file.getvalue()


def _yaml(trap: Trap) -> bytes:
    return f"!!python/object/apply:os.mkdir ['{trap.canary}']".encode()


FORMATS = dict(zip=_zip, legacy=_legacy, plain=_plain, newest=_newest, array=_array, arrays=_arrays, yaml=_yaml)
SPRINGS = dict(
    zip=lambda path: torch.load(path, weights_only=False),
    legacy=lambda path: torch.load(path, weights_only=False),
    plain=lambda path: pickle.loads(path.read_bytes()),
    newest=lambda path: pickle.loads(path.read_bytes()),
    array=lambda path: np.load(path, allow_pickle=True),
    arrays=lambda path: np.load(path, allow_pickle=True)["weight"],
    yaml=lambda path: yaml.unsafe_load(path.read_text()),
)

PRETRAINED = "model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint"
CLASS_WEIGHT = "model.decode_head.loss_decode.class_weight"
TRAIN = "train {d}/config.py --work-dir {out} --cfg-options"
VOLUMES = "predict_volumes {d}/volumes.py"
CLASSIFIER = "model.dim=32 model.depth=2 model.grid=(4,4) model.num_classes=2"

KINDS = {".npy": ["array"], ".npz": ["arrays"], ".yaml": ["yaml"], ".yml": ["yaml"]}
"""By the ending of a file; of every other the pickles."""

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
    "predict, picture": ("predict {d}/config.py {d}/good.pth {trap} --out {out}", ".png .jpg .npy .tif"),
    "convert": ("convert_checkpoint {trap} {out}/a.pth", ".th .pth .safetensors"),
    "volumes, checkpoint": (f"{VOLUMES} {{trap}} {{d}}/case.nii.gz --out {{out}}", ".pth"),
    "volumes, volume": (f"{VOLUMES} {{d}}/volumes.pth {{trap}} --out {{out}}", ".nii .nii.gz .npy .npz"),
    "volumes, list": (f"{VOLUMES} {{d}}/volumes.pth {{trap}} --out {{out}}", ".json"),
    "volumes, plan": (
        f"{VOLUMES} {{d}}/volumes.pth {{d}}/case.nii.gz --out {{out}} --cfg-options plan={{trap}}",
        ".json .pkl",
    ),
    "volumes, labels": ("evaluate_volumes {d}/volumes.py {d}/case.nii.gz {trap} --out {out}", ".nii.gz .json"),
    "plan, list": ("plan_volumes {d} --datalist {trap} --out {out}/plan.json", ".json .pkl"),
    "bundle": ("export_bundle {d}/run --checkpoint {trap} --out {out}", ".pth .pt"),
    "probe": (
        f"probe configs/vil_imagenet.py {{trap}} --work-dir {{out}} --cfg-options {CLASSIFIER}",
        ".pth .th .safetensors",
    ),
    "compare": ("compare_volumes {trap} {trap} --out {out}/a.csv", ".csv"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    write_sound(folder)
    (folder / "run").mkdir()
    shutil.copy(folder / "volumes.py", folder / "run")
    return folder


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path / "sprung")


@pytest.fixture
def command(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """Runs a command line: its exit code and the end of stderr."""

    def run(line: str) -> tuple[int, str]:
        code = run_command(line, monkeypatch)
        return code, (capsys.readouterr().err.splitlines() or [""])[-1]

    return run


@pytest.mark.parametrize("kind", FORMATS)
def test_the_traps_spring(kind: str, trap: Trap, tmp_path: Path) -> None:
    """What is tested below could run code."""
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


def run_folder(path: Path, pointer: bytes) -> Path:
    """A work folder whose `last_checkpoint` holds `pointer`."""
    path.mkdir()
    (path / "last_checkpoint").write_bytes(pointer)
    return path


def test_resuming_runs_nothing(data: Path, trap: Trap, tmp_path: Path, command) -> None:
    """Neither what the pointer names nor a pointer that is a pickle itself."""
    for number, pointer in enumerate((b"iter_2.pth", _plain(trap), _zip(trap))):
        folder = run_folder(tmp_path / f"run_{number}", pointer)
        (folder / "iter_2.pth").write_bytes(_zip(trap))
        code, said = command(f"train {data}/config.py --resume --work-dir {folder}")
        assert not trap.canary.exists()
        assert code == 2 and said.startswith(f"error: {folder}/iter_2.pth was refused: it holds "), said


@pytest.mark.parametrize("pointer", ["pth", "pickle"])
def test_exporting_the_last_checkpoint_runs_nothing(
    pointer: str, data: Path, trap: Trap, tmp_path: Path, command
) -> None:
    folder = run_folder(tmp_path / "run", b"/elsewhere/trap.pth" if pointer == "pth" else _plain(trap))
    shutil.copy(data / "volumes.py", folder)
    (folder / "trap.pth").write_bytes(_zip(trap))
    (folder / "validation").mkdir()
    (folder / "validation/metrics.json").write_bytes(_plain(trap))
    code, said = command(f"export_bundle {folder} --out {tmp_path}/out")
    assert not trap.canary.exists() and code == 2 and said.startswith("error: "), said


@pytest.mark.parametrize("name", ["dataset.json", "splits_final.json", "list.json"])
def test_data_lists_run_nothing(name: str, data: Path, trap: Trap, tmp_path: Path, command) -> None:
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
        shutil.copy(data / "case.nii.gz", tmp_path / folder)
    (tmp_path / name).write_bytes(_plain(trap))
    choice = "--datalist list.json" if name == "list.json" else ""
    code, said = command(f"plan_volumes {tmp_path} {choice} --out {tmp_path}/plan.json")
    assert not trap.canary.exists() and code == 2 and f"{tmp_path / name} is no " in said, said


def test_pictures_weights_of_a_volume_network_run_nothing(trap: Trap, tmp_path: Path) -> None:
    from vil_dense.mm.medical import VolumeSegmentor

    network = dict(type="ViLUNet3D", channels=(8, 8), depths=(0, 1), deep_supervision=1)
    for kind in ("zip", "legacy", "plain"):
        path = tmp_path / f"{kind}.pth"
        path.write_bytes(FORMATS[kind](trap))
        with pytest.raises(ValueError, match=r"could run code|is not a whole checkpoint"):
            VolumeSegmentor(PLAN, network, picture_weights=str(path))
        assert not trap.canary.exists()


def test_a_config_in_a_checkpoint_is_not_run(data: Path, trap: Trap, tmp_path: Path, command) -> None:
    """MMEngine would run `meta.config` when a run is resumed; `meta.cfg` is read for the design it was trained with."""
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
        assert code == 2 and said == f"error: no checkpoint at {address}"
