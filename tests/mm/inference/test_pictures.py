"""Tests files that are to be labelled: their names do not collide, and those that are not read are named."""

from pathlib import Path

import pytest
from mmengine.registry import MODELS
from PIL import Image, UnidentifiedImageError
from refusals import assert_one_line, raises_one_line
from sliding_models import WHOLE, small_config, write_run

from vil_dense.mm import Segmentor
from vil_dense.mm.engine.resolve.config import name_outputs
from vil_dense.mm.engine.runner import ViLRunner
from vil_dense.mm.inference.pictures import find_pictures, why_unread


def test_one_name_in_several_folders(tmp_path: Path) -> None:
    """Tests that results lie below the shared folder where names would collide; within a folder they are refused."""
    for name in ("siteA/0.jpg", "siteB/0.jpg", "siteB/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert sorted(find_pictures([str(tmp_path)]).values()) == [Path("siteA/0"), Path("siteB/0"), Path("siteB/1")]
    assert [*find_pictures([str(tmp_path / "siteB")]).values()] == [Path("0"), Path("1")]
    both = find_pictures([f"{tmp_path}/siteA", f"{tmp_path}/siteB"])
    assert [*both.values()] == [Path("siteA/0"), Path("siteB/0"), Path("siteB/1")]
    files = find_pictures([f"{tmp_path}/siteA/0.jpg", f"{tmp_path}/siteB/0.jpg"])
    assert [*files.values()] == [Path("siteA/0"), Path("siteB/0")]
    Image.new("RGB", (8, 8)).save(tmp_path / "siteA/0.png")
    with raises_one_line(ValueError, tmp_path / "siteA/0.jpg", tmp_path / "siteA/0.png"):
        find_pictures([f"{tmp_path}/siteA", f"{tmp_path}/siteB"])


@pytest.mark.parametrize("name", ["a.gif", "a.avif", "a.jp2", "a.mp4"])
def test_files_that_are_not_read_are_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    (tmp_path / name).write_bytes(b"content")
    assert [*find_pictures([str(tmp_path)])] == [tmp_path / "b.png"]
    assert_one_line(capsys.readouterr().err, tmp_path, name)


def test_a_list_is_no_picture() -> None:
    """Tests that the error for a list of pictures says how to name them."""
    assert_one_line(why_unread(Path("val.txt"), UnidentifiedImageError()), "val.txt", "list", "xargs")


def test_two_classes_are_no_warning(tmp_path: Path) -> None:
    """Tests that mmseg's advice on binary segmentation, a UserWarning and so an error here, is not given."""
    cfg = small_config(WHOLE)
    cfg.model.decode_head.num_classes = 2
    cfg.test_dataloader.dataset.metainfo = dict(classes=["wall", "road"])
    runner = ViLRunner.__new__(ViLRunner)
    runner.cfg = cfg
    model = runner.build_model(cfg.model)
    assert model.out_channels == 2 and "out_channels" not in cfg.model.decode_head
    assert Segmentor.load(write_run(tmp_path / "run", cfg, model), device="cpu").model.out_channels == 2
    with pytest.warns(UserWarning, match="binary segmentation"):
        MODELS.build(cfg.model)
    cfg.model.decode_head.out_channels = 1
    assert name_outputs(cfg.model) == cfg.model
