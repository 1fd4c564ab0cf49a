"""Tests published models: one file gives the masks of the run, and a hostile one is refused in a sentence."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from refusals import assert_error_line, raises_one_line
from run_command import run_command
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sliding_models import segmentor, slide, small_config

from vil_dense.mm import Segmentor
from vil_dense.mm.publish.published import KEY, is_published, parse, read_published
from vil_dense.synthetic.scenes import CLASSES, write_sample

WINDOWS = slide((64, 64), (43, 43))


def own_data(cfg: Config, data: Path) -> None:
    """Reads the sample, of which five classes are trained, without worker processes."""
    part = dict(cfg.test_dataloader.dataset, data_root=str(data), type="SampleDataset", pipeline=[])
    part["metainfo"] = dict(classes=list(CLASSES[3:8]))
    load, *rest = [step for step in cfg.test_dataloader.dataset.pipeline if step.type != "Resize"]
    cfg.test_dataloader = cfg.val_dataloader = dict(
        batch_size=1,
        num_workers=0,
        persistent_workers=False,
        sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=dict(part, pipeline=[load, *rest]),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample"), train=1, val=2)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the work folder of a run with averaged weights: config, checkpoint, scalars."""
    folder = tmp_path_factory.mktemp("runs") / "my_run"
    cfg = small_config(WINDOWS)
    own_data(cfg, data)
    cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint="/home/me/weights.pth")
    (folder / "x/vis_data").mkdir(parents=True)
    cfg.dump(folder / "my_config.py")
    model = segmentor(WINDOWS).float()
    raw = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    state = dict(state_dict=model.state_dict(), ema_state_dict=raw, meta=dict(iter=8))
    torch.save(state, folder / "best_mIoU_iter_8.pth")
    rows = [dict(mIoU=40.0, aAcc=70.0, step=4), dict(mIoU=41.5, aAcc=71.0, step=8), dict(mIoU=39.0, step=12)]
    (folder / "x/vis_data/scalars.json").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def published(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("published") / "model.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        assert run_command(f"publish_model {run} --out {out} --licence apache-2.0", patch) == 0
    return out


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 80, 3), dtype=np.uint8)


def test_what_is_published_again_keeps_its_record(published: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        assert run_command(f"publish_model {published} --out {tmp_path}/again.safetensors", patch) == 0
    first, again = (Segmentor.load(path, device="cpu").trained for path in (published, tmp_path / "again.safetensors"))
    assert first.metrics and (again.metrics, again.about) == (first.metrics, first.about)
    assert again.about["licence"] == "apache-2.0"


def test_one_file_gives_the_masks_of_the_run(run: Path, published: Path, image: np.ndarray) -> None:
    expected, found = (Segmentor.load(source, device="cpu") for source in (run, published))
    masks = [one.predict(image).mask for one in (expected, found)]
    np.testing.assert_array_equal(*masks)
    assert len(np.unique(masks[0])) > 1 and set(np.unique(masks[0])) <= {4, 5, 6, 7, 8}
    assert expected.classes == found.classes and expected.palette == found.palette
    assert found.trained.metrics == dict(mIoU=41.5, aAcc=71.0)
    assert found.trained.cfg.model.test_cfg.crop_size == (64, 64)  # a tuple again


def test_no_path_of_the_machine_and_no_pretrained_file(run: Path, published: Path, data: Path) -> None:
    with safe_open(published, "pt") as file:
        text = file.metadata()[KEY]
    assert str(data) not in text and str(run) not in text and "weights.pth" not in text and "data_root" not in text
    content = json.loads(text)
    assert content["about"]["licence"] == "apache-2.0" and content["about"]["step"] == 8
    assert content["about"]["protocol"] == "own size, windows of 64 every 43"


def test_a_folder_with_a_card(run: Path, tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "hub"
    line = f"publish_model {run}/my_config.py {run}/best_mIoU_iter_8.pth --out {out} --name ViL-Test --licence mit"
    assert run_command(line, monkeypatch) == 0
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (out / "README.md").read_text()
    facts = ("ViL-Test", "| mIoU | 41.50 |", "license: mit", "Segmentor.load", "Sample", "8 steps", "UPerHead")
    assert all(fact in card for fact in facts), card
    assert str(tmp_path) not in card and str(run) not in card
    loaded = Segmentor.load(out, device="cpu")
    loaded.save_pretrained(tmp_path / "again.safetensors")
    again = Segmentor.load(tmp_path / "again.safetensors", device="cpu")
    np.testing.assert_array_equal(loaded.predict(image).mask, again.predict(image).mask)
    assert again.trained.about == loaded.trained.about and again.trained.metrics == loaded.trained.metrics
    loaded.save_pretrained(out)  # one that was published before is replaced
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").write_text("x")
    with raises_one_line(FileExistsError, tmp_path / "other"):
        loaded.save_pretrained(tmp_path / "other")
    with raises_one_line(FileExistsError, tmp_path / "other/thesis.tex", ".safetensors"):
        loaded.save_pretrained(tmp_path / "other/thesis.tex")


def test_the_commands_take_the_file_alone(
    published: Path, run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    pictures = data / "images/validation"
    sources = [published, run, f"{run}/my_config.py {run}/best_mIoU_iter_8.pth"]
    for number, source in enumerate(sources):
        line = f"predict {source} {pictures} --out {tmp_path}/{number} --probabilities --opacity 0.3"
        assert run_command(line, monkeypatch) == 0
    first, *others = [
        [path.read_bytes() for path in sorted((tmp_path / str(number)).rglob("*.*"))] for number in range(3)
    ]
    assert len(first) == 6 and all(other == first for other in others)
    assert capsys.readouterr().out.count("probabilities: 0.00 GiB more") >= 3
    line = f"test {published} --work-dir {tmp_path}/test --cfg-options test_dataloader.dataset.data_root={data}"
    assert run_command(line, monkeypatch) == 0
    of_file = result_of(capsys.readouterr().out)
    assert run_command(f"test {sources[2]} --work-dir {tmp_path}/test2", monkeypatch) == 0
    assert of_file == result_of(capsys.readouterr().out) != ""
    assert run_command(f"predict {run}/my_config.py {run}/best_mIoU_iter_8.pth --out {tmp_path}/3", monkeypatch) == 2
    assert_error_line(capsys.readouterr().err, "INPUT", "best_mIoU_iter_8.pth")
    assert run_command(f"test {run}/my_config.py --work-dir {tmp_path}/3", monkeypatch) == 2
    assert_error_line(capsys.readouterr().err, "my_config.py", "checkpoint")


def result_of(said: str) -> str:
    return next(line.split("result: ")[1] for line in said.splitlines() if "result: " in line)


def content_of(file: Path) -> dict[str, Any]:
    with safe_open(file, "pt") as opened:
        return json.loads(opened.metadata()[KEY])


def model(content: dict) -> dict:
    return content["config"]["model"]


def pipeline(content: dict) -> list:
    return content["config"]["test_dataloader"]["dataset"]["pipeline"]


def deep(content: dict) -> None:
    node = model(content)["backbone"]
    for _ in range(60):
        node["a"] = {}
        node = node["a"]


HOSTILE: dict[str, tuple[Callable[[dict], Any], tuple[str, ...]]] = {
    "a function": (lambda c: model(c)["backbone"].update(type="os.system"), ("model.backbone", "os.system", "mmseg")),
    "a path to a class": (lambda c: pipeline(c)[0].update(type="mmcv.transforms.LoadImageFromFile"), ("mmcv.transf",)),
    "another scope": (lambda c: model(c)["backbone"].update(type="mmdet.ResNet"), ("mmdet.ResNet",)),
    "an unknown class": (lambda c: model(c)["decode_head"].update(type="MyHead"), ("model.decode_head", "MyHead")),
    "a class of another kind": (lambda c: pipeline(c)[0].update(type="UPerHead"), ("pipeline[0]", "UPerHead")),
    "no name": (lambda c: model(c)["backbone"].update(type=["ViL"]), ("model.backbone", "list")),
    "lazy": (lambda c: model(c).update(_target_="os.system"), ("model", "_target_")),
    "import": (lambda c: model(c)["backbone"].update(_import_=["os"]), ("_import_",)),
    "scope": (lambda c: model(c)["backbone"].update(_scope_="os"), ("_scope_",)),
    "custom imports": (lambda c: c["config"].update(custom_imports=dict(imports=["os"])), ("custom_imports",)),
    "hooks": (lambda c: c["config"].update(custom_hooks=[]), ("custom_hooks",)),
    "a download": (lambda c: model(c)["backbone"].update(init_cfg=dict(checkpoint="http://a")), ("init_cfg",)),
    "a backend": (lambda c: pipeline(c)[0].update(backend_args=dict(backend="http")), ("backend_args",)),
    "a file": (lambda c: model(c)["backbone"].update(variant="a/b.pth"), ("model.backbone.variant", "a/b.pth")),
    "class weights": (lambda c: model(c)["decode_head"]["loss_decode"].update(class_weight="a.pkl"), ("class_weight",)),
    "a folder": (lambda c: c["config"]["test_dataloader"]["dataset"].update(ann_file="../../a"), ("ann_file",)),
    "deep": (deep, ("nested",)),
    "no model": (lambda c: c["config"].pop("model"), ("model",)),
    "no part": (lambda c: c.pop("metrics"), ("metrics",)),
    "the future": (lambda c: c.update(format=9), ("9", "1")),
    "classes": (lambda c: c["data"].update(classes=["a\nb"]), ("classes",)),
    "too many classes": (lambda c: c["data"].update(classes=["a"] * 70000), ("classes", "65536")),
    "unknown coding": (lambda c: c["data"].update(coding="smell"), ("coding", "colours")),
    "palette": (lambda c: c["data"].update(palette=[[0, 0, 999]] * 5), ("palette", "5")),
    "label map": (lambda c: c["data"].update(label_map=[[0, 1, 2]]), ("label_map",)),
    "texts": (lambda c: c["about"].update(name=["a"]), ("texts",)),
    "huge": (lambda c: c["about"].update(name="a" * 2_000_000), ("1,048,576",)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_description_is_refused(case: str, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that each is refused before anything is built."""
    monkeypatch.setattr(MODELS, "build", lambda *args, **options: pytest.fail("was built"))
    change, names = HOSTILE[case]
    content = content_of(published)
    parse(json.dumps(content))
    change(content)
    with raises_one_line(ValueError, *names):
        parse(json.dumps(content))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"format": NaN}'])
def test_a_description_that_is_none(text: str) -> None:
    with raises_one_line(ValueError, "description"):
        parse(text)


def test_files_that_are_refused(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Refuses files: cut, with a header of a huge size, a changed description, other tensors, weights alone."""
    whole = published.read_bytes()
    weights, content = load_file(published), content_of(published)
    content["config"]["model"]["backbone"]["type"] = "os.system"
    files = {
        "cut": whole[: len(whole) // 2],
        "header": struct.pack("<Q", 2**40) + whole[8:],
        "empty": b"",
        "pickle": b"\x80\x04cos\nsystem\n.",
    }
    for name, written in files.items():
        (tmp_path / f"{name}.safetensors").write_bytes(written)
    save_file(weights, tmp_path / "changed.safetensors", {KEY: json.dumps(content)})
    save_file(weights, tmp_path / "alone.safetensors")
    for name in (*files, "changed", "alone"):
        file = tmp_path / f"{name}.safetensors"
        for read in (read_published, Segmentor.load):
            with raises_one_line(ValueError, file):
                read(file)
        assert run_command(f"predict {file} {tmp_path} --out {tmp_path}/out", monkeypatch) == 2
        assert_error_line(capsys.readouterr().err, file)
    assert not is_published(tmp_path / "alone.safetensors") and not is_published(tmp_path / "cut.safetensors")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub/model.safetensors").write_bytes(files["cut"])
    with raises_one_line(ValueError, tmp_path / "hub/model.safetensors"):
        Segmentor.load(tmp_path / "hub")
    content = content_of(published)
    del weights["decode_head.conv_seg.bias"]
    save_file(weights, tmp_path / "other.safetensors", {KEY: json.dumps(content)})
    with raises_one_line(ValueError, tmp_path / "other.safetensors", "decode_head.conv_seg.bias"):
        Segmentor.load(tmp_path / "other.safetensors")


def test_a_part_of_ones_own_cannot_be_published(run: Path, tmp_path: Path, image: np.ndarray) -> None:
    """Tests a neck that no package has, and a data set of one's own, without which the model can be published."""
    loaded = Segmentor.load(run, device="cpu")
    loaded.trained.cfg.test_dataloader.dataset.type = "MyDataset"
    loaded.save_pretrained(tmp_path / "a.safetensors")
    again = Segmentor.load(tmp_path / "a.safetensors", device="cpu")
    np.testing.assert_array_equal(loaded.predict(image).mask, again.predict(image).mask)
    loaded.trained.cfg.model.neck.type = "MyNeck"
    with raises_one_line(ValueError, "model.neck", "MyNeck"):
        loaded.save_pretrained(tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()
