"""Tests that the samples of README and of the pages run, and the files, links and options that they name exist."""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
from config_files import CONFIGS, EXPERIMENTS
from fresh_mmengine import fresh_mmengine  # noqa: F401
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from sliding_models import WHOLE, segmentor, small_config, write_run

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "tools/README.md",
    "configs/README.md",
    "configs/results/README.md",
    "vil_dense/mm/README.md",
    "vil_dense/medical/README.md",
    "vil_dense/ops/README.md",
    ".github/CONTRIBUTING.md",
)
BUNDLE = ("inference", "train", "evaluate", "metadata", "schema", "onnx_export")
REPORT = {"per_class.csv", "per_image.csv", "confusion.csv"}
MADE = {
    "metrics.csv",
    "pictures/reconstructions_STEP.png",
    "sizes.csv",
    "volumes.csv",
    "uncertainty.csv",
    *REPORT,
    *(f"configs/{name}.json" for name in BUNDLE),
}
"""Files that commands of the pages write."""
TOP = ("configs", "tools", "tests", "vil_dense", ".github", ".ci")
ENDINGS = (".cfg", ".csv", ".md", ".png", ".py", ".txt")
OF_A_READER = ("work_dirs", "data", "images", "annotations", "$", "ImageSets", "classes.", "splits/", "{train,val}")

each_page = pytest.mark.parametrize("page", PAGES)


class Block(NamedTuple):
    """Holds a fenced block: its language, and its text."""

    language: str
    text: str

    @property
    def config(self) -> str:
        """Returns the path that a config's first line names, or an empty string."""
        found = re.match(r"# (configs/\S+\.py)\n", self.text)
        return found[1] if found else ""


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[Block]:
    found = [Block(*match) for match in re.findall(r"^```(\w*)\n(.*?)^```$", read(page), re.DOTALL | re.MULTILINE)]
    return [block for block in found if block.language == language]


CONFIG_SAMPLES = [block for page in PAGES for block in blocks(page, "python") if block.config]
each_config = pytest.mark.parametrize("block", CONFIG_SAMPLES, ids=lambda block: Path(block.config).stem)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes a folder with the configs of this one, into which samples may write; the test runs in it."""
    for path in CONFIGS.iterdir():
        (tmp_path / "configs").mkdir(exist_ok=True)
        if not path.is_dir() or path.name.startswith("_base_"):
            (tmp_path / "configs" / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_config(block: Block, checkout: Path) -> Path:
    path = checkout / block.config
    path.parent.mkdir(exist_ok=True)
    path.write_text(block.text)
    return path


def test_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= 150


@each_page
def test_python_runs_as_it_stands(page: str, checkout: Path) -> None:
    """Tests the samples of a page one after another, as a reader would type them."""
    if page.startswith("vil_dense/medical"):
        pytest.importorskip("monai", reason="monai is missing: pip install '.[medical]'")
    if page in ("README.md", "vil_dense/mm/README.md"):
        write_run(checkout / "work_dirs/vil_upernet_images", small_config(WHOLE), segmentor(WHOLE))
        Image.new("RGB", (64, 48)).save(checkout / "street.jpg")
    names: dict = {}
    for block in blocks(page, "python"):
        if not block.config:
            exec(compile(block.text, page, "exec"), names)
    for name, shape in SHAPES.get(page, {}).items():
        found = names[name] if isinstance(names[name], tuple | list) else [names[name]]
        assert {tuple(x.shape) for x in found} == {shape}
    if page.startswith("vil_dense/medical"):
        structures = names["summary"]["structures"]
        assert structures["liver"]["dice"] == pytest.approx(0.9) and structures["spleen"]["absent"] == 1


SHAPES = {
    "README.md": dict(logits=(1, 1000), maps=(1, 192, 19, 32), tokens=(1, 8, 10, 13, 96)),
    "vil_dense/mm/README.md": dict(maps=(1, 96, 16, 12)),
    "vil_dense/medical/README.md": dict(logits=(1, 3, 30, 41, 17)),
    "vil_dense/ops/README.md": dict(h=(2, 4, 100, 48)),
}
"""Shapes that the comments of the samples promise."""


@each_config
def test_a_config_builds(block: Block, checkout: Path) -> None:
    cfg = Config.fromfile(write_config(block, checkout))
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    assert len(model.backbone.out_channels) == len(model.backbone.out_indices)
    assert model.decode_head.in_channels in (model.backbone.out_channels[0], list(model.backbone.out_channels))


def commands(page: str) -> list[str]:
    """Returns the lines of a page's shell blocks, without comments, and its code spans."""
    shell = "".join(block.text for block in blocks(page, "sh")).replace("\\\n", " ")
    text = re.sub(r"^```.*?^```$", "", read(page), flags=re.DOTALL | re.MULTILINE)
    return [re.sub(r"(^|\s)#.*", "", line) for line in shell.splitlines()] + re.findall(r"`([^`\n]+)`", text)


def paths(page: str) -> Iterator[str]:
    """Yields what names files of this repository, from its root or from the page's folder, braces expanded."""
    made = MADE | {block.config for block in CONFIG_SAMPLES}
    for command in commands(page):
        for word in re.split(r"""[\s="'()\[\];|]+|,(?![^{]*})""", command):
            word = word.rstrip(".,:/")
            named = word.split("/")[0] in TOP or word.endswith(ENDINGS)
            if named and word not in made and "..." not in word and not word.startswith(OF_A_READER):
                parts = re.split(r"{([^}]*)}", word)  # outside and inside of braces in turn
                for chosen in product(*(part.split(",") if n % 2 else [part] for n, part in enumerate(parts))):
                    yield "".join(chosen)


def exists(path: str, page: str) -> bool:
    """Returns whether a path or a pattern names files, as seen from the root or from the page's folder."""
    return any(any(folder.glob(path)) for folder in (ROOT, (ROOT / page).parent))


@each_page
def test_every_path_is_there(page: str) -> None:
    assert [path for path in dict.fromkeys(paths(page)) if not exists(path, page)] == []


@each_page
def test_every_link_leads_somewhere(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", read(page), flags=re.DOTALL | re.MULTILINE)
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        if name.startswith("https://"):
            continue
        path = (ROOT / page).parent / name if name else ROOT / page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            lost.append(target)
    assert lost == []


def anchors(page: Path) -> set[str]:
    """Returns the names that a page's headings have in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@each_page
def test_every_option_of_a_command_is_known(page: str) -> None:
    """Tests options against the source of the tool or of what all tools share, and targets against the Makefile."""
    shared = (ROOT / "vil_dense/command_line.py").read_text()
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    unknown = []
    for command in commands(page):
        tool = re.search(r"(tools/\S+\.py)(.*)", command)
        if tool and (ROOT / tool[1]).is_file():
            source = (ROOT / tool[1]).read_text() + shared
            unknown += [
                f"{tool[1]} {option}" for option in re.findall(r"--[a-z][\w-]+", tool[2]) if f'"{option}"' not in source
            ]
        unknown += [f"make {name}" for name in re.findall(r"^make ([\w-]+)", command) if name not in targets]
    assert unknown == []


@each_page
def test_every_default_hook_is_there(page: str) -> None:
    hooks = Config.fromfile(CONFIGS / "vil_upernet_ade20k.py").default_hooks
    named = re.findall(r"default_hooks\.(\w+)\.(\w+)", read(page))
    added = {key for key, option in named if option == "type"}
    assert [(key, option) for key, option in named if key not in added and option not in hooks.get(key, {})] == []


def test_every_experiment_is_listed() -> None:
    listed = {file for path in paths("configs/README.md") for file in CONFIGS.glob(path)}
    assert [path.name for path in EXPERIMENTS if path not in listed] == []
