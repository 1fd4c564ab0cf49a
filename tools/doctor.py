"""Checks the installation and prints what will not work, with a fix.

Command: python tools/doctor.py [--json]

Prints a line for each finding with its fix below. `ok`: nothing to do. `note`: works, but could be changed for the
better, or lacks a part that only some runs need. `fault`: runs will fail. The exit code is 1 if there is a fault, else
0. Nothing is installed or changed. Packages are imported one by one, so that a broken one does not stop the others.
"""

import argparse
import ast
import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
GIB = 2**30
OFFICIAL = ("mmengine", "mmcv", "mmcv-lite", "mmsegmentation")
ONEDL = ("onedl-mmengine", "onedl-mmcv", "onedl-mmsegmentation")


class Finding(NamedTuple):
    """Stores a finding: `state` is ok, note or fault; `fix` is a remedy or a reason to do nothing, empty if ok."""

    topic: str
    state: str
    detail: str
    fix: str = ""


def installed(package: str) -> str | None:
    """Returns the version of a package, None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def python(version: tuple[int, ...] = sys.version_info[:2]) -> Iterator[Finding]:
    """Checks the version of Python."""
    detail = f"{'.'.join(map(str, version))} on {platform.system()} {platform.machine()}, tested on 3.11"
    old = version < (3, 10)
    fix = "Python 3.10 or newer is needed: make PYTHON=python3.11 ..." if old else ""
    yield Finding("python", "fault" if old else "ok", detail, fix)


def pins(text: str, version: tuple[int, ...]) -> dict[str, str]:
    """Returns the version of each package in a requirements file for a Python `version`."""
    found = {}
    for line in text.splitlines():
        requirement, _, marker = line.partition("#")[0].partition(";")
        name, _, pin = requirement.strip().partition("==")
        older = "<" in marker
        if pin and (not marker.strip() or older == (version < (3, 11))):
            found[name] = pin
    return found


def packages() -> Iterator[Finding]:
    """Compares the installed packages with the tested versions."""
    for name, tested in pins((ROOT / "requirements.txt").read_text(encoding="utf-8"), sys.version_info[:2]).items():
        here = installed(name)
        if name in ONEDL:
            continue  # see `openmmlab`
        if here is None:
            state, fix = (
                "fault" if name in ("torch", "numpy", "safetensors") else "note",
                f"pip install {name}=={tested}",
            )
            yield Finding(name, state, f"not installed, {tested} was tested", fix)
        elif here.partition("+")[0] != tested:
            yield Finding(name, "note", f"{here}, {tested} was tested", f"pip install {name}=={tested} if it fails")
        else:
            yield Finding(name, "ok", here)


def openmmlab() -> Iterator[Finding]:
    """Checks which of the two OpenMMLab sets is installed; both are imported as mmengine, mmcv and mmseg."""
    official = {name: version for name in OFFICIAL if (version := installed(name))}
    onedl = {name: version for name in ONEDL if (version := installed(name))}
    detail = ", ".join(f"{name} {version}" for name, version in {**official, **onedl}.items())
    if official and onedl:
        yield Finding(
            "openmmlab", "fault", f"both sets, and each writes over the other's files: {detail}",
            f"pip uninstall -y {' '.join({**official, **onedl})}; pip install -r requirements.txt",
        )  # fmt: skip
        return
    if not official and not onedl:
        yield Finding("openmmlab", "fault", "not installed", "pip install 'vil_dense[seg]'")
        return
    fix = f"it may stay; for the tested set: pip uninstall -y {' '.join(official)}; pip install -r requirements.txt"
    yield Finding("openmmlab", "ok" if onedl else "note", detail, "" if onedl else fix)
    if onedl:
        yield Finding(
            "openmmlab", "ok",
            "not used by our configs, and broken in this set: class_weight with avg_non_ignore=True, pictures of more "
            "than 3 channels in SegDataPreProcessor, and configs that inherit from `mmseg::` (copy what you need)",
        )  # fmt: skip
    if official.get("mmengine", "").startswith(("0.7", "0.8", "0.9", "0.10")):
        yield Finding(
            "openmmlab", "note", "this mmengine loads checkpoints in a way that torch 2.6 and newer refuse",
            "our tools put a loader of their own in its place; elsewhere: pip install --pre 'mmengine>=0.11.0rc3'",
        )  # fmt: skip
    if "mmcv-lite" in official:
        yield Finding(
            "openmmlab", "fault", "mmcv-lite has no compiled operators, and the official mmseg needs them",
            "pip uninstall mmcv-lite; pip install mmcv (compiles), or take the set of requirements.txt",
        )  # fmt: skip


def imports() -> Iterator[Finding]:
    """Checks that the packages of vil_dense can be imported."""
    for name, extra in (("vil_dense.backbones", ""), ("vil_dense.mm", "seg"), ("vil_dense.medical", "medical")):
        try:
            importlib.import_module("vil_dense.command_line").spare_libraries()
            importlib.import_module(name)
            yield Finding(name, "ok", "can be imported")
        except Exception as error:  # any failure of the import is a finding
            fix = f"pip install -e '.[{extra}]'" if extra else "pip install -e ."
            yield Finding(name, "note" if extra == "medical" else "fault", f"{type(error).__name__}: {error}", fix)


def device() -> Iterator[Finding]:
    """Checks the GPUs, their free memory and their precision."""
    import torch

    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        mend = "see whether nvidia-smi lists it" if torch.version.cuda else "install torch's CUDA build"
        fix = f"there seems to be one: {mend}, https://pytorch.org/get-started" if shutil.which("nvidia-smi") else ""
        detail = f"none that torch {torch.__version__} ({built}) can use: training runs on the CPU"
        yield Finding("gpu", "note" if fix else "ok", detail, fix)
        yield Finding("precision", "ok", "float32; mixed precision needs a GPU")
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        detail = f"{torch.cuda.get_device_name(index)}, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
        fix = "another process uses it: nvidia-smi" if free < total / 2 else ""
        yield Finding(f"gpu {index}", "note" if fix else "ok", detail, fix)
    if torch.cuda.is_bf16_supported(including_emulation=False):
        yield Finding("precision", "ok", "bfloat16 and float16")
        return
    fix = "--cfg-options optim_wrapper.dtype=float16 optim_wrapper.loss_scale=dynamic"
    detail = "this GPU has no bfloat16, which the ImageNet and large volume configs use"
    yield Finding("precision", "note", detail, fix)


def disagreement(backend: str, device: str, dtype: str, bound: float) -> str | None:
    """Describes a deviation of a backend from the float64 recurrence above `bound` x the largest value, else None."""
    import torch

    from vil_dense.ops import mlstm

    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 64, 8, generator=generator, dtype=torch.float64).to(device)
    i, f = torch.randn(2, 2, 2, 64, generator=generator, dtype=torch.float64).to(device).transpose(1, 2)
    reference = mlstm(q, k, v, i, f, backend="recurrent")
    try:
        found = mlstm(*(x.to(getattr(torch, dtype)) for x in (q, k, v, i, f)), backend=backend)
        torch.testing.assert_close(found.double(), reference, rtol=0, atol=bound * float(reference.abs().max()))
    except Exception as error:  # of a kernel's compiler they are of many kinds
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None


def kernels() -> Iterator[Finding]:
    """Checks the backends of the mLSTM and the compiler."""
    import torch

    from vil_dense.ops.compiled import compiler_problem

    here = "cuda" if torch.cuda.is_available() else "cpu"
    if problem := disagreement("chunkwise", here, "float64", 1e-8):
        yield Finding("chunkwise", "fault", problem, "use the torch of requirements.txt, and report it")
    else:
        yield Finding("chunkwise", "ok", f"equals the recurrence on {here}")
    if problem := compiler_problem(here):
        fix = "install a C++ compiler (g++); without one leave compile_blocks=False"
        yield Finding("compile", "note", problem, fix)
    else:
        yield Finding("compile", "ok", f"torch.compile works on {here}")
    if here == "cpu":
        yield Finding("triton", "ok", "not needed without a GPU: the backend chunkwise is taken")
    elif importlib.util.find_spec("triton") is None:
        yield Finding("triton", "note", "not installed: no backend='triton'", "pip install 'vil_dense[triton]'")
    else:
        problem = disagreement("triton", here, "float32", 1e-3)
        detail = f"{installed('triton')}, " + (problem or "equals the recurrence")
        yield Finding("triton", "note" if problem else "ok", detail, "leave backend='auto'" if problem else "")


def space(folder: Path = Path(), shared: Path = Path("/dev/shm")) -> Iterator[Finding]:
    """Checks the free space of the disk and of shared memory."""
    free = shutil.disk_usage(folder).free
    detail = f"{free / GIB:.1f} GiB free for work folders in {folder.absolute()}"
    fix = "" if free >= 5 * GIB else "make room, or name a --work-dir on another disk; a checkpoint of ViL-B has 1.4 GB"
    yield Finding("disk", "fault" if free < GIB else "note" if fix else "ok", detail, fix)
    if not os.access(folder, os.W_OK):
        yield Finding("disk", "fault", f"{folder.absolute()} cannot be written to", "name a --work-dir elsewhere")
    if not shared.is_dir():
        return
    size = shutil.disk_usage(shared).total
    fix = "" if size >= GIB else "docker run --shm-size=8g, or train_dataloader.num_workers=0"
    detail = f"{shared} has {size / GIB:.2f} GiB, through which loader processes hand over batches"
    yield Finding("shared memory", "note" if fix else "ok", detail, fix)


def memory() -> Iterator[Finding]:
    """Checks the cores and the free memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    info = Path("/proc/meminfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    if free is None:
        detail = f"{cores} cores; this system does not say how much memory is free"
        yield Finding("memory", "note", detail, "nothing to mend: see that 2 GiB or more are free")
        return
    fix = "" if free >= 2 * GIB else "end other processes, or take smaller crops and batches"
    yield Finding("memory", "note" if fix else "ok", f"{free / GIB:.1f} GiB free, {cores} cores", fix)


def data(root: Path = ROOT) -> Iterator[Finding]:
    """Checks the `data_root` of each `configs/_base_/datasets/*.py` without running the file, in one finding."""
    here: list[str] = []
    gone: list[str] = []
    for path in sorted((root / "configs/_base_/datasets").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.Assign) or getattr(node.targets[0], "id", "") != "data_root":
                continue
            (here if Path(ast.literal_eval(node.value)).is_dir() else gone).append(path.stem)
    detail = f"found: {', '.join(here) or 'none'}; not at the data_root of their configs: {', '.join(gone) or 'none'}"
    fix = (
        "" if here else "configs/_base_/datasets say what they hold; tools/dataset_converters/make_sample.py makes one"
    )
    yield Finding("data", "note" if fix else "ok", detail, fix)


TOPICS: dict[str, Callable[[], Iterator[Finding]]] = dict(
    python=python, packages=packages, openmmlab=openmmlab, imports=imports, device=device, kernels=kernels,
    space=space, memory=memory, data=data,
)  # fmt: skip


def examine(debug: bool = False) -> list[Finding]:
    """Returns all findings; a check that fails is a finding, or with `debug` raises."""
    found: list[Finding] = []
    for topic, check in TOPICS.items():
        try:
            with contextlib.redirect_stdout(sys.stderr):  # some packages print when they are imported
                found += check()
        except Exception as error:  # a broken environment raises any error
            if debug:
                raise
            detail = f"could not be checked, {type(error).__name__}: {error}"
            found.append(Finding(topic, "fault", detail, "fix the faults above first, then run the doctor again"))
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--json", action="store_true", help="print a JSON list of topic, state, detail, fix")
    arguments.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = arguments.parse_args()
    try:
        sys.exit(report(examine(args.debug), args.json))
    except (KeyboardInterrupt, OSError) as error:  # an OSError: stdout is closed or full
        if args.debug:
            raise
        interrupted = isinstance(error, KeyboardInterrupt)
        print("stopped by Ctrl-C" if interrupted else f"error: {error}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT if interrupted else 2)


def report(found: list[Finding], as_json: bool) -> int:
    """Prints the findings; returns the exit code."""
    if as_json:
        print(json.dumps([finding._asdict() for finding in found], indent=2))
    else:
        for finding in found:
            print(f"{finding.state:<6}{finding.topic:<20}{finding.detail}")
            if finding.fix:
                print(f"{'':<26}-> {finding.fix}")
        counts = {state: sum(finding.state == state for finding in found) for state in ("fault", "note", "ok")}
        print(", ".join(f"{count} {state}" for state, count in counts.items()))
    return int(any(finding.state == "fault" for finding in found))


if __name__ == "__main__":
    main()
