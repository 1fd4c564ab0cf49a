"""Times ViL-T, -S and -B and their peers on a GPU, under bfloat16 autocast."""

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.contestants.case import Case, Contestant, LeftOut
from benchmarks.contestants.table import Make, contestants
from benchmarks.measure import Result, contest, say, trouble
from benchmarks.session import Session, in_parallel, set_precision

SIZES = ((224, 64), (1024, 4), (512, 16), (2048, 1))
"""Side in px and batch, in the order in which they are measured."""
NETWORKS = ("ours-triton", "ours-triton-compiled", "ours-compiled", "official-compiled", "vit", "vit-compiled")
BLOCKS = ("ours-triton", "ours-triton-compiled", "vit", "vit-compiled")
OPERATORS = ("triton", "chunkwise-compiled", "mlstm_kernels", "floor")
LENGTHS = ((196, 64), (1024, 16), (4096, 4), (16384, 1))
VARIANTS = ("vil2-tiny", "vil2-small", "vil2-base")
REPEATS, PATIENCE = 10, 2.0


def networks(session: Session, variant: str) -> Iterator[Result]:
    """Times forward and training of a network; then of two of its blocks, which stand for one of a transformer."""
    toy = dict(dim=32, depth=2) if session.dry else {}
    for size, batch in ((32, 2),) if session.dry else SIZES:
        for mode in ("train", "backbone"):
            yield measure(session, mode, NETWORKS, variant=variant, size=size, batch=batch, **toy)
    for size, batch in ((32, 2),) if session.dry else SIZES[:2]:
        for mode in ("train", "backbone"):
            row = measure(session, mode, BLOCKS, variant=variant, size=size, batch=batch, **{**toy, "depth": 2})
            yield dict(row, variant=f"{variant}, two blocks")


def warm_up(session: Session) -> Iterator[Result]:
    """Compiles side by side what is timed afterwards: compilers keep their results on the disk."""
    if session.dry:
        raise LeftOut("nothing is compiled in a dry run")
    return in_parallel(session, compile_networks, [(name, mode) for name in VARIANTS for mode in ("train", "backbone")])


def compile_networks(session: Session, variant: str, mode: str) -> list[Result]:
    """Runs each compiled network once at each size; errors are left to the timing."""
    set_precision(torch.bfloat16)
    rows = []
    for size, batch in SIZES:
        fields: dict[str, Any] = dict(variant=variant, size=size, batch=batch, backward=mode == "train")
        case = session.case(mode, dtype=torch.bfloat16, **fields)
        torch._dynamo.reset()
        for name in filter(lambda name: name.endswith("-compiled"), NETWORKS):
            start = time.monotonic()
            try:
                find(session, mode, name)(case).step()
                result: Result = dict(seconds=time.monotonic() - start)
            except Exception as error:  # as in `measure.admit`
                result = trouble(error)
            torch.cuda.empty_cache()
            rows.append(dict(variant=variant, mode=mode, size=f"{size}x{batch}", name=name, compiled=result))
    return rows


def operator(session: Session) -> Iterator[Result]:
    """Times the mLSTM alone beside NX-AI's kernels, forward and backward."""
    for length, batch in ((70, 2),) if session.dry else LENGTHS:
        dim = dict(dim=32) if session.dry else {}
        yield measure(session, "op", OPERATORS, size=length, batch=batch, backward=True, **dim)


def measure(session: Session, mode: str, names: tuple[str, ...], **fields: Any) -> Result:
    """Runs one contest and returns its row."""
    dtype = torch.bfloat16
    set_precision(dtype)
    case = session.case(mode, dtype=dtype, **{"backward": mode == "train", **fields})
    if session.dry:  # compilers take minutes on a CPU
        names = tuple(dict.fromkeys(name.removesuffix("-compiled") for name in names))
    say(f"{case}")
    makers = {name: session.in_time(find(session, mode, name)) for name in names}
    results = contest(case, makers, 2 if session.dry else REPEATS, PATIENCE)
    shape = dict(tokens=case.tokens, batch=case.batch, dim=case.options["dim"], depth=case.options["depth"])
    row = dict(mode=mode, variant=case.variant, size=f"{case.size}x{case.batch}", **shape, contestants=results)
    if session.device.type == "cuda":
        torch.cuda.empty_cache()
    return row


def find(session: Session, mode: str, name: str) -> Make:
    """Returns the maker of a contestant; one that leaves it out where its clone is missing or its kernels are wrong."""
    if name.startswith("official") and not session.official:
        return partial(refuse, reason="no clone was given: --official")
    if "triton" in name and (wrong := refused_kernels(session)):
        return partial(refuse, reason=f"its kernels were refused: {wrong}")
    return contestants(mode)[name]


def refuse(case: Case, reason: str) -> Contestant:
    """Raises LeftOut with `reason`."""
    raise LeftOut(reason)


def refused_kernels(session: Session) -> str:
    """Returns what the check of the kernels in bfloat16 refused, or an empty string."""
    path = session.out / "parts/kernels.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    ours = (row for row in rows if row["backend"] == "triton" and row["dtype"] == "bfloat16")
    return next((f"{row['width']}, {row['size']}: {row['refused']}" for row in ours if "refused" in row), "")
