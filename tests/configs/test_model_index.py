"""Tests that the model index, in mmseg's form, lists each config with a measured result, and has its numbers."""

import re
from pathlib import Path
from statistics import mean

import pytest
import yaml
from config_files import EXPERIMENTS, docstring, field

ROOT = Path(__file__).parents[2]


def index() -> list[dict]:
    """Returns the entries of all files that the index imports."""
    files = yaml.safe_load((ROOT / "model-index.yml").read_text())["Import"]
    parts = [yaml.safe_load((ROOT / file).read_text()) for file in files]
    known = {collection["Name"] for part in parts for collection in part["Collections"]}
    models = [model for part in parts for model in part["Models"]]
    assert known == {model["In Collection"] for model in models}
    return models


def numbers(result: str, metric: str) -> list[float]:
    """Returns the numbers after the name of a metric in a config's result, one for each seed."""
    found = re.search(rf"\b{metric} (\d[\d.]*\d(?:, \d[\d.]*\d)*)", result)
    return [float(number) for number in found[1].split(", ")] if found else []


def test_each_measured_config_has_an_entry() -> None:
    measured = {path.relative_to(ROOT) for path in EXPERIMENTS if "Not run yet." not in docstring(path)}
    listed = [Path(model["Config"]) for model in index()]
    assert len(listed) == len(set(listed)) and set(listed) == measured


@pytest.mark.parametrize("model", index(), ids=lambda model: model["Name"])
def test_an_entry(model: dict) -> None:
    config = ROOT / model["Config"]
    assert model["Name"] == config.stem and (ROOT / model["Files"]).exists()
    result = field(docstring(config), "Result")
    assert model["Results"]["Metrics"]
    for metric, value in model["Results"]["Metrics"].items():
        seeds = numbers(result, metric)
        assert seeds and mean(seeds) == pytest.approx(value, abs=0.005), (metric, result)
