"""Speed of ViL-T, -S and -B on a GPU beside its peers, under bfloat16 autocast."""

import json
from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.case import Case, Contestant, LeftOut
from benchmarks.measure import Result, contest, say
from benchmarks.session import Session, set_precision
from benchmarks.table import Make, contestants

SIZES = ((224, 64), (1024, 4), (512, 16), (2048, 1))
"""Side in px and batch, in the order in which they are measured."""
NETWORKS = ("ours-triton", "ours-triton-compiled", "ours-compiled", "official-compiled", "vit", "vit-compiled")
BLOCKS = ("ours-triton", "ours-triton-compiled", "vit", "vit-compiled")
OPERATORS = ("triton", "chunkwise-compiled", "mlstm_kernels", "floor")
LENGTHS = ((196, 64), (1024, 16), (4096, 4), (16384, 1))
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


def operator(session: Session) -> Iterator[Result]:
    """Times the mLSTM alone beside NX-AI's kernels, forward and backward."""
    for length, batch in ((70, 2),) if session.dry else LENGTHS:
        dim = dict(dim=32) if session.dry else {}
        yield measure(session, "op", OPERATORS, size=length, batch=batch, backward=True, **dim)


def measure(session: Session, mode: str, names: tuple[str, ...], **fields: object) -> Result:
    """Runs one contest and returns its row."""
    dtype = torch.bfloat16
    set_precision(dtype)
    case = session.case(mode, dtype=dtype, **{"backward": mode == "train", **fields})
    if session.dry:  # compilers take minutes on a CPU
        names = tuple(name for name in names if not name.endswith("-compiled") or name.startswith("official"))
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
    if session.dry:
        name = name.removesuffix("-compiled")
    return contestants(mode)[name]


def refuse(case: Case, reason: str) -> Contestant:
    raise LeftOut(reason)


def refused_kernels(session: Session) -> str:
    """Returns what the check of the kernels in bfloat16 refused, or an empty string."""
    path = session.out / "parts/kernels.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    ours = (row for row in rows if row["backend"] == "triton" and row["dtype"] == "bfloat16")
    return next((f"{row['width']}, {row['size']}: {row['refused']}" for row in ours if "refused" in row), "")
