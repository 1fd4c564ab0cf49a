"""Bad inputs through the commands: each ends in one sentence that names what is wrong, with its exit code, and leaves
nothing half made."""

import re
from pathlib import Path

import pytest

pytest.importorskip("mmseg")
pytest.importorskip("monai")

from bad_commands import CASES
from bad_inputs import write_bad_inputs
from run_command import run_command

# MMEngine keeps what it built under the name of the run, which in one process several runs share.
pytestmark = pytest.mark.filterwarnings("ignore:.* instance named of .* has been created:UserWarning")


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bad_inputs(tmp_path_factory.mktemp("bad") / "inputs")


@pytest.fixture
def command(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """Runs a command line: its exit code, stdout and the lines of stderr."""

    def run(line: str) -> tuple[int, str, list[str]]:
        code = run_command(line, monkeypatch)
        said = capfd.readouterr()
        return code, said.out, said.err.splitlines()

    return run


def left(folder: Path) -> list[str]:
    """Files that a refused command wrote, beside the log and the config of a training."""
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return [name for name in files if not re.search(r"\.log$|^config\.py$|^\w+\.py$|/vis_data/config\.py$", name)]


@pytest.mark.parametrize("name", CASES)
def test_bad(name: str, bad: Path, tmp_path: Path, command) -> None:
    case, out = CASES[name], tmp_path / "out"
    before = sorted(bad.rglob("*"))
    code, said, errors = command(case.command.replace("{bad}", str(bad)).replace("{out}", str(out)))
    assert code == case.code, (said, errors)
    assert "error: " in errors[-1] and case.says.replace("{bad}", str(bad)) in errors[-1], errors
    assert sum("error: " in line for line in errors) == 1, errors
    assert "Traceback" not in said + "".join(errors)
    assert left(out) == [] and sorted(bad.rglob("*")) == before
    assert len(errors[-1]) < 1000
