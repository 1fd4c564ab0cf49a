"""Tests the doctor's findings, from faked environments; its exit code and its JSON."""

import importlib.util
import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("doctor", ROOT / "tools/doctor.py")
doctor = importlib.util.module_from_spec(spec)
spec.loader.exec_module(doctor)
Usage = namedtuple("Usage", "total used free")


def states(findings) -> list[str]:
    return [finding.state for finding in findings]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch):
    """Returns a function that sets which packages are installed."""
    return lambda packages: monkeypatch.setattr(doctor, "installed", packages.get)


ONEDL = {"onedl-mmengine": "0.10.12", "onedl-mmcv": "2.3.6", "onedl-mmsegmentation": "1.4.2"}
OFFICIAL = {"mmengine": "0.10.7", "mmcv": "2.1.0", "mmsegmentation": "1.2.2"}


@pytest.mark.parametrize(
    ("packages", "expected", "words"),
    [
        (ONEDL, ["ok", "ok"], "class_weight with avg_non_ignore"),
        (OFFICIAL, ["note", "note"], "torch 2.6 and newer refuse"),
        ({**OFFICIAL, "mmengine": "0.11.0rc3"}, ["note"], "mmengine 0.11.0rc3"),
        ({**OFFICIAL, "mmcv-lite": "2.1.0"}, ["note", "note", "fault"], "mmcv-lite has no compiled operators"),
        ({**ONEDL, "mmengine": "0.10.7"}, ["fault"], "both sets"),
        ({}, ["fault"], "not installed"),
    ],
    ids=["onedl", "official", "official rc", "lite", "both", "none"],
)
def test_openmmlab(packages: dict, expected: list[str], words: str, fake):
    fake(packages)
    found = list(doctor.openmmlab())
    assert states(found) == expected and any(words in finding.detail for finding in found)
    assert all(finding.fix for finding in found if finding.state != "ok")


def test_packages(fake):
    tested = doctor.pins((ROOT / "requirements.txt").read_text(), (3, 11))
    fake({**tested, "torch": tested["torch"] + "+cpu"})
    assert set(states(doctor.packages())) == {"ok"}
    fake({**tested, "monai": "1.5.0"} | dict(nibabel=None, safetensors=None))
    found = {finding.topic: finding for finding in doctor.packages() if finding.state != "ok"}
    assert {name: finding.state for name, finding in found.items()} == dict(
        monai="note", nibabel="note", safetensors="fault"
    )
    assert found["safetensors"].fix == f"pip install safetensors=={tested['safetensors']}"


def test_pins_follow_the_markers():
    text = 'a==1\nb==2; python_version >= "3.11"\nb==1; python_version < "3.11"\n# c==3\nd>=4\n'
    assert doctor.pins(text, (3, 11)) == dict(a="1", b="2")
    assert doctor.pins(text, (3, 10)) == dict(a="1", b="1")


@pytest.mark.parametrize(("version", "state"), [((3, 9), "fault"), ((3, 11), "ok"), ((3, 12), "ok")])
def test_python(version: tuple[int, int], state: str):
    (found,) = doctor.python(version)
    assert found.state == state and bool(found.fix) == (state != "ok")


@pytest.mark.parametrize(
    ("free_gib", "shared_gib", "expected"),
    [(50, 8, ["ok", "ok"]), (3, 0.0625, ["note", "note"]), (0.5, 8, ["fault", "ok"])],
)
def test_space(free_gib: float, shared_gib: float, expected: list[str], tmp_path: Path, monkeypatch):
    def usage(path: Path) -> Usage:
        return Usage(int(shared_gib * doctor.GIB), 0, int(free_gib * doctor.GIB))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    found = list(doctor.space(tmp_path, tmp_path))
    assert states(found) == expected
    assert all(bool(finding.fix) == (finding.state != "ok") for finding in found)


def test_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    configs = tmp_path / "configs/_base_/datasets"
    configs.mkdir(parents=True)
    (configs / "here.py").write_text('data_root = "."\n')
    (configs / "gone.py").write_text('data_root = "data/gone"\nraise SystemExit("configs are not run")\n')
    (configs / "none.py").write_text("fold = 0\n")
    monkeypatch.chdir(tmp_path)
    (found,) = doctor.data(tmp_path)
    assert found.state == "ok" and "found: here;" in found.detail and found.detail.endswith(": gone") and not found.fix
    (configs / "here.py").unlink()
    (found,) = doctor.data(tmp_path)
    assert found.state == "note" and "found: none" in found.detail and "make_sample.py" in found.fix


def test_no_compiler(monkeypatch: pytest.MonkeyPatch):
    from vil_dense.ops import compiled

    monkeypatch.setattr(compiled, "compiler_problem", lambda device: "no g++")
    found = {finding.topic: finding for finding in doctor.kernels()}
    assert found["chunkwise"].state == "ok" and found["compile"] == doctor.Finding(
        "compile", "note", "no g++", "install a C++ compiler (g++); without one leave compile_blocks=False"
    )


def test_kernels_that_compute_something_else(monkeypatch: pytest.MonkeyPatch):
    from vil_dense import ops
    from vil_dense.ops import compiled

    real = ops.mlstm
    wrong = dict(recurrent=1.0, chunkwise=1.01)
    monkeypatch.setattr(ops, "mlstm", lambda *args, backend: wrong[backend] * real(*args, backend=backend))
    monkeypatch.setattr(compiled, "compiler_problem", lambda device: None)
    assert states(doctor.kernels())[:2] == ["fault", "ok"]


def test_the_kernels_of_triton_are_run(monkeypatch: pytest.MonkeyPatch):
    """Tests a stand-in for the kernels: results within and beyond the bound, and errors without a GPU or triton."""
    from vil_dense import ops

    real = ops.mlstm
    assert "triton" in doctor.disagreement("triton", "cpu", "float32", 1e-3)
    for factor, equal in ((1 + 1e-4, True), (1.01, False)):
        standing = dict(recurrent=1.0, triton=factor)
        monkeypatch.setattr(ops, "mlstm", lambda *args, backend, by=standing: by[backend] * real(*args))
        assert (doctor.disagreement("triton", "cpu", "float32", 1e-3) is None) == equal


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("fault", 1)])
def test_exit_code_and_json(state: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    finding = doctor.Finding("disk", state, "detail", "mend it")

    def check():
        print("noise of an import")
        yield finding

    monkeypatch.setattr(doctor, "TOPICS", dict(disk=check))
    for arguments in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", ["doctor.py", *arguments])
        with pytest.raises(SystemExit) as end:
            doctor.main()
        assert end.value.code == code
        out = capsys.readouterr().out
        if arguments:
            assert json.loads(out) == [finding._asdict()]
        else:
            assert out.splitlines()[0].split() == [state, "disk", "detail"] and "-> mend it" in out


def test_a_check_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch):
    def check():
        raise ImportError("No module named 'torch'")

    monkeypatch.setattr(doctor, "TOPICS", dict(device=check, python=lambda: doctor.python((3, 11))))
    first, second = doctor.examine()
    assert first.state == "fault" and "No module named 'torch'" in first.detail and second.state == "ok"


def test_ctrl_c_and_debug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def check(error: type[BaseException]):
        def fail():
            raise error("of a check")

        monkeypatch.setattr(doctor, "TOPICS", dict(device=fail))

    check(KeyboardInterrupt)
    monkeypatch.setattr("sys.argv", ["doctor.py"])
    with pytest.raises(SystemExit) as end:
        doctor.main()
    assert end.value.code == 130 and "Ctrl-C" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["doctor.py", "--debug"])
    for error in (KeyboardInterrupt, ImportError):
        check(error)
        with pytest.raises(error, match="of a check"):
            doctor.main()


@pytest.mark.parametrize("cuda", [None, "12.8"])
def test_without_a_gpu(cuda: str | None, monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert [(found.state, found.fix) for found in doctor.device()] == [("ok", ""), ("ok", "")]
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    gpu, precision = doctor.device()
    assert (gpu.state, precision.state) == ("note", "ok") and ("CUDA build" in gpu.fix) == (cuda is None)


def test_triton_without_a_gpu(monkeypatch: pytest.MonkeyPatch, fake):
    import torch

    from vil_dense.ops import compiled

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(compiled, "compiler_problem", lambda device: None)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: object())
    fake(dict(triton="3.5.0"))
    *_, found = doctor.kernels()
    assert (found.topic, found.state, found.fix) == ("triton", "ok", "") and "chunkwise" in found.detail


def test_memory_that_is_not_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor.Path, "is_file", lambda self: False)
    (found,) = doctor.memory()
    assert found.state == "note" and "see that 2 GiB" in found.fix
