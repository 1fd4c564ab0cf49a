"""Makes a folder of bad inputs, and the sound ones that they stand beside: python tests/helpers/bad_inputs.py DIR

DIR/config.py, DIR/volumes.py  configs of two small networks; DIR/good.pth, DIR/volumes.pth their checkpoints
DIR/sample, DIR/case.nii.gz    sound data
DIR/pictures, labels, volumes, lists, plans, checkpoints, configs, runs   one bad input each, named after what is wrong
"""

import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import torch
from bad_data import (
    LISTS,
    PLAN,
    PLANS,
    noise,
    write_data,
    write_json,
    write_labels,
    write_pictures,
    write_volumes,
)
from mmengine.config import Config
from mmengine.registry import init_default_scope
from nifti_files import affine, write_nifti
from torch import nn

ROOT = Path(__file__).parents[2]
PICTURES_CONFIG = """
_base_ = ["{root}/configs/vil_upernet_sample.py"]
model = dict(
    backbone=dict(dim=32, depth=2, out_indices=(0, 0, 1, 1)),
    neck=dict(embed_dim=32),
    decode_head=dict(in_channels=[32] * 4, channels=16),
    auxiliary_head=dict(in_channels=32, channels=16),
)
loader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root="{data}"))
train_dataloader = dict(batch_size=2, **loader)
val_dataloader = loader
test_dataloader = loader
train_cfg = dict(max_iters=2, val_interval=2)
"""
VOLUMES_CONFIG = """
_base_ = ["{root}/configs/_base_/volumes_runtime.py"]
plan = {plan}
model = dict(
    type="VolumeSegmentor",
    network=dict(type="ViLUNet3D", channels=(8, 8), depths=(0, 1), deep_supervision=1),
)
"""


def write_checkpoints(folder: Path, good: Path) -> None:
    state = torch.load(good, weights_only=True)["state_dict"]
    name = "backbone.net.blocks.0.layer.proj_up.weight"
    assert name in state, list(state)[:5]
    for kind, content in {
        "no_dict": [1, 2],
        "state_is_a_number": dict(state_dict=3),
        "state_is_text": dict(state_dict={key: "x" for key in state}),
        "other_model": dict(state_dict=nn.Linear(2, 2).state_dict()),
        "other_width": dict(state_dict={key: value.repeat_interleave(2, 0) for key, value in state.items()}),
        "nan": dict(state_dict=state | {name: torch.full_like(state[name], torch.nan)}),
        "without_tensors": dict(epoch=3),
    }.items():
        torch.save(content, folder / f"{kind}.pth")
    for size in (0, 5000):
        (folder / f"cut_{size}.pth").write_bytes(good.read_bytes()[:size])
    (folder / "text.pth").write_text("not a checkpoint, but long enough to be read as one")
    (folder / "folder.pth").mkdir()
    (folder / "cut.safetensors").write_bytes(struct.pack("<Q", 1000) + b"{")
    (folder / "renamed.safetensors").write_bytes(good.read_bytes())
    np.save(folder / "array.npy", np.zeros(3))


CONFIGS = {
    "syntax": "model = dict(",
    "no_base": "_base_ = ['nowhere.py']",
    "name_error": "model = dict(type=EncoderDecoder)",
    "division": "model = dict(type='EncoderDecoder', depth=1 // 0)",
    "import": "custom_imports = dict(imports=['no_such_package'])\nmodel = dict(type='X')",
    "reserved": "filename = 'x'\nmodel = dict(type='X')",
    "empty": "",
    "no_data": "model = dict(type='EncoderDecoder')",
    "unknown_model": "_base_ = ['{good}']\nmodel = dict(type='EncodeDecode')",
    "unknown_option": "_base_ = ['{good}']\nmodel = dict(backbone=dict(hidden=3))",
    "unknown_data": "_base_ = ['{good}']\ntrain_dataloader = dict(dataset=dict(type='NoDataset'))",
    "unknown_step": "_base_ = ['{good}']\ntrain_dataloader = dict(dataset=dict(pipeline=[dict(type='NoStep')]))",
    "classes": "_base_ = ['{good}']\nmodel = dict(decode_head=dict(num_classes=7))",
}


def write_configs(folder: Path, good: Path) -> None:
    for name, text in CONFIGS.items():
        (folder / f"{name}.py").write_text(text.replace("{good}", str(good)))
    (folder / "config.txt").write_text("model = 3")
    (folder / "broken.json").write_text("{")
    (folder / "folder.py").mkdir()


def write_sound(root: Path) -> None:
    """Writes configs, checkpoints of the networks that they begin with, and data."""
    from mmengine.registry import MODELS

    from vil_dense.mm.engine.resolve.config import resolve_norm
    from vil_dense.mm.engine.resolve.volumes import resolve_plan

    texts = {
        "config.py": PICTURES_CONFIG.format(root=ROOT, data=write_data(root / "sample")),
        "volumes.py": VOLUMES_CONFIG.format(root=ROOT, plan=PLAN),
    }
    for name, checkpoint in (("config.py", "good.pth"), ("volumes.py", "volumes.pth")):
        (root / name).write_text(texts[name])
        cfg = Config.fromfile(root / name)
        init_default_scope(cfg.default_scope)
        resolve_plan(cfg)
        if "decode_head" in cfg.model:
            resolve_norm(cfg, 1, False)
        torch.manual_seed(0)
        torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), root / checkpoint)
    write_nifti(root / "case.nii.gz", noise(17, 12, 9).astype(np.int16), affine())


def write_runs(folder: Path, config: Path, colours: Path) -> None:
    """Writes the results of commands, and damages them."""
    header = "case,structure,dice,hd95_mm,nsd\n"
    for name, content in {
        "table/metrics.csv": b"case,dice\na,1\n",
        "text/metrics.csv": f"{header}a,organ,good,1,1\n".encode(),
        "bytes/metrics.csv": b"\xff\xfe\x00",
        "log/a/vis_data/scalars.json": b'{"mIoU": \n{"mIoU": 1, "step": 1}\n',
        "settings/settings.json": b"{",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for kind in ("images", "annotations"):
        shutil.copytree(colours / kind / "training", folder / "camvid" / kind / "train")


def write_bad_inputs(root: Path) -> Path:
    """Writes all of it below `root`, and returns that."""
    root.mkdir(parents=True, exist_ok=True)
    write_sound(root)
    for name in ("pictures", "labels", "volumes", "lists", "plans", "checkpoints", "configs", "runs"):
        (root / name).mkdir()
    write_pictures(root / "pictures")
    write_labels(root / "labels")
    write_volumes(root / "volumes")
    write_json(root / "lists", LISTS)
    write_json(root / "plans", PLANS)
    write_checkpoints(root / "checkpoints", root / "good.pth")
    write_configs(root / "configs", root / "config.py")
    write_runs(root / "runs", root / "volumes.py", root / "labels/colours")
    return root


if __name__ == "__main__":
    print(f"bad inputs: {write_bad_inputs(Path(sys.argv[1]))}")
