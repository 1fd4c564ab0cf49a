"""Tests the table beside the paper: our counts are the official ones, and what differs is marked."""

import csv
import runpy
from pathlib import Path

import pytest
from config_files import BY_NAME, CLASSIFIERS
from mmengine.config import Config
from run_command import run_tool

ROOT = Path(__file__).parents[2]
TABLE = runpy.run_path(str(ROOT / "tools/analysis/model_table.py"))


def config(name: str) -> Config:
    return Config.fromfile(BY_NAME[name])


@pytest.mark.parametrize(
    ("name", "tokens", "parameters", "macs"),
    [
        # the official code counted by fvcore, in millions, norms included
        ("vil_imagenet", 196, 6_088_360, 1863.73),
        ("vil2-t_800e-20e_in1k-224", 196, 6_391_528, 1872.84),
        ("vil-t-plus-stride8_30e_in1k-224", 729, 7_277_840, 17006.42),
        ("vil-l_400e_in1k-224", 196, 308_282_728, 67815.46),
        ("vil-t_quad_400e_in100-128", 64, 7_078_756, 759.33),
    ],
)
def test_counts_are_the_official_ones(name: str, tokens: int, parameters: int, macs: float):
    ours = TABLE["measured"](config(name))
    assert (ours.tokens, ours.quadratic.parameters) == (tokens, parameters)
    assert 0.98 * macs < ours.quadratic.macs / 1e6 < macs


def test_table_2_holds_at_224_px_and_1000_classes():
    ours = TABLE["measured"](config("vil-t_quad_400e_in100-128"), 224, 1000)
    line = TABLE["row"]("vil-t_quad_400e_in100-128", ours, TABLE["PAPER"]["vil-t_quad_400e_in100-128"], 1_850_000_000)
    assert line[5] == "4.191 (2.27x)" and line[-1] == ""
    own = TABLE["row"](
        "vil-t_quad_400e_in100-128",
        TABLE["measured"](config("vil-t_quad_400e_in100-128")),
        TABLE["PAPER"]["vil-t_quad_400e_in100-128"],
        448_000_000,
    )
    assert own[-1].startswith("DIFFERS: 7.1M parameters here, 7.3M in the paper; DIFFERS: 1.7 times uni's GMAC here")


def test_pictures_of_four_bands_are_counted() -> None:
    options = ["model.backbone.in_channels=4"]
    done = run_tool("analysis/get_flops", "configs/vil_upernet_images.py", "--shape", 64, "--cfg-options", *options)
    assert done.returncode == 0 and "shape: 1 x 4 x 64 x 64" in done.stdout, done.stderr


def test_what_differs_is_marked():
    differs = TABLE["differs"]
    assert differs(24.628664, "26M", "M parameters") == ["DIFFERS: 24.6M parameters here, 26M in the paper"]
    assert differs(22.79, "23M", "M parameters") == [] and differs(1.52, "1.5G", " GMAC") == []


def test_every_run_has_a_line():
    assert set(TABLE["PAPER"]) == {path.stem for path in CLASSIFIERS}


def test_written_as_csv(tmp_path: Path):
    line = ("a", 224, 196, "6,088,360", "6M", "1.850", "1.683", "", "77.3", "")
    assert (
        TABLE["markdown"]([line]).splitlines()[2] == "| a | 224 | 196 | 6,088,360 | 6M | 1.850 | 1.683 |  | 77.3 |  |"
    )
    TABLE["save"](tmp_path / "t.csv", [line])
    with (tmp_path / "t.csv").open() as file:
        (found,) = csv.DictReader(file)
    assert list(found.values()) == list(map(str, line))
    assert found["run"] == "a" and found["paper's parameters"] == "6M" and found["top-1"] == "77.3"
