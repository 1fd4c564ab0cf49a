"""Tests that what README shows runs as it stands there."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()
NETWORK, CONFIG = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_ten_lines_of_python() -> None:
    names: dict = {}
    exec(NETWORK, names)
    assert names["logits"].shape == (1, 1000)
    assert [tuple(x.shape) for x in names["maps"]] == [(1, 192, 19, 32)] * 4
    assert names["tokens"].shape == (1, 8, 10, 13, 96)


def test_ten_lines_of_config() -> None:
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    init_default_scope("mmseg")
    cfg = Config.fromstring(CONFIG, ".py")
    assert cfg.model.backbone.pop("init_cfg").type == "Pretrained"
    assert MODELS.build(cfg.model).backbone.out_channels == (192,) * 4


def test_every_named_file_is_there() -> None:
    root = Path(__file__).parents[1]
    for name in re.findall(r"(?:configs|tools)/\w+\.py", README):
        assert (root / name).is_file(), name
