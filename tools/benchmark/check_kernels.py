"""Compiles the Triton kernels for GPUs that need not be installed, and prints the resources of each.

No GPU is needed: host code runs on small tensors of the CPU, launches are caught, and each kernel is compiled with the
ptxas of Triton's wheel.

Command: python tools/benchmark/check_kernels.py [--caps 80 90]
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

from vil_dense.command_line import plain_parser
from vil_dense.errors import exit_on_error

CAPS = (80, 89, 90)
DIMS = (96, 192, 384, 512)
DTYPES = ("bfloat16", "float16", "float32")


def catch_launches(cap: int) -> list[dict[str, Any]]:
    """Replaces the driver: from now on a launch compiles its kernel for compute capability `cap` and is recorded."""
    import torch
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    no_device = SimpleNamespace(
        get_current_device=lambda: 0,
        set_current_device=lambda device: None,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: GPUTarget("cuda", cap, 32),
        get_active_torch_device=lambda: torch.device("cpu"),
    )
    driver.set_active(no_device)
    records: list[dict[str, Any]] = []
    launch = JITFunction.run
    seen = set()

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        compiled = launch(self, *args, grid=grid, warmup=True, **options)
        if compiled is not None and compiled.hash not in seen:
            seen.add(compiled.hash)
            flags = [name for name in ("BACKWARD", "STATES", "MAPS", "CAUSAL") if options.get(name)]
            records.append({"kernel": " ".join([self.fn.__name__, *flags]), **describe(compiled)})

    JITFunction.run = run
    return records


def describe(compiled: Any) -> dict[str, Any]:
    """Returns registers, spilled bytes, shared memory and instructions of a compiled kernel."""
    from triton.backends.nvidia.compiler import get_ptxas

    ptx = compiled.asm["ptx"]
    arch = re.search(r"\.target (\w+)", ptx)
    assert arch is not None
    ptxas = get_ptxas(int(re.sub(r"\D", "", arch[1]))).path
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        options = ["-v", "-lineinfo", "--regAllocOptLevel=2", f"--gpu-name={arch[1]}"]
        command = [ptxas, *options, file.name, "-o", "/dev/null"]
        report = subprocess.run(command, capture_output=True, text=True).stderr
    registers = re.findall(r"Used (\d+) registers", report)
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)  # of each function
    if not registers or not spills:
        raise RuntimeError(f"ptxas says nothing of registers:\n{report}")
    return {
        "registers": max(map(int, registers)),
        "spilled": [sum(map(int, column)) for column in zip(*spills, strict=True)],
        "shared": compiled.metadata.shared,
        "warps": compiled.metadata.num_warps,
        "mma": sorted({mma_kind(x) for x in re.findall(r"(?:wgmma\.mma_async|mma\.sync)[\w.]*", ptx)}),
        "cp_async": Counter(re.findall(r"cp\.async\.(?:cg|ca|bulk)", ptx)).total(),
    }


def mma_kind(instruction: str) -> str:
    """Returns `bf16`, `f16` or `tf32`, with `wgmma` before it where the instruction is one of a warp group."""
    operand = re.findall(r"(bf16|tf32|f16)", instruction)
    kind = next((x for x in operand if x != "f16"), "f16") if operand else instruction
    return f"wgmma {kind}" if instruction.startswith("wgmma") else kind


def run_host_code(dim: int, dtype_name: str) -> None:
    """Runs the host code for one head dimension and dtype, forward and backward, in several chunks and in one."""
    import torch

    dtype = getattr(torch, dtype_name)
    for tokens in (600, 200):
        run_cell(dim, dtype, tokens)
        run_operator(dim, dtype, tokens)
    run_norm(2 * dim, dtype)


def run_cell(dim: int, dtype: Any, tokens: int) -> None:
    """Runs the host code of the fused cell, forward and backward."""
    import torch

    from vil_dense.ops.cell_weights import CellWeights
    from vil_dense.ops.gpu.cell import cell_backward, cell_forward

    E = 4 * dim
    maps = [x for _ in range(3) for x in (torch.empty(4, 4, E // 4), torch.empty(E))]
    gates = [x for _ in range(2) for x in (torch.empty(4, 3 * E), torch.empty(4))]
    weights = CellWeights(torch.empty(E, 1, 3, 3), torch.empty(E), *maps, *gates, *torch.empty(3, E))
    u, z = torch.empty(2, tokens // 20, 20, 2 * E, dtype=dtype).chunk(2, -1)
    y, saved = cell_forward(u, z, weights, False, False, 1e-6, True)
    assert saved is not None
    cell_backward(y, u, z, weights, saved, False, False, 1e-6)


def run_operator(dim: int, dtype: Any, tokens: int) -> None:
    """Runs the host code of the mLSTM, forward and backward."""
    import torch

    from vil_dense.ops.gpu.mlstm import _MLSTM

    q, k, v = torch.empty(3, 2, 4, tokens, dim, dtype=dtype).requires_grad_()
    i, f = torch.empty(2, 2, 4, tokens)
    h = _MLSTM.apply(q, k, v, i, f, 1e-6, False)
    h.backward(torch.empty_like(h))


def run_norm(dim: int, dtype: Any) -> None:
    """Runs the host code of the norm, forward and backward."""
    import torch

    from vil_dense.ops.gpu.norm import norm_backward, norm_forward

    x = torch.empty(2, 30, 20, dim)
    weight, bias = torch.empty(2, dim)
    norm_backward(norm_forward(x, weight, bias, 1e-5, dtype), x, x, weight, bias, 1e-5)


def check(cap: int, dim: int, dtype: str) -> list[dict[str, Any]]:
    """Returns the records of one configuration, in this process."""
    records = catch_launches(cap)
    run_host_code(dim, dtype)
    return [{"cap": cap, "dim": dim, "dtype": dtype, **record} for record in records]


def check_all(caps: list[int]) -> list[dict[str, Any]]:
    """Returns the records of every configuration, each in a process of its own."""

    def one(case: tuple[int, int, str]) -> list[dict[str, Any]]:
        command = [sys.executable, __file__, "--one", *map(str, case)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"{case} failed:\n{result.stderr[-4000:]}")
        return json.loads(result.stdout.splitlines()[-1])

    cases = [(cap, dim, dtype) for cap in caps for dtype in DTYPES for dim in DIMS]
    with ThreadPoolExecutor(2) as pool:
        return [record for records in pool.map(one, cases) for record in records]


def page(records: list[dict[str, Any]]) -> str:
    """Returns a table in Markdown: one row for a kernel, dtype and card, with a value for each head dimension."""
    from benchmarks.report import table

    header = ("kernel", "dtype", "sm", "DH", "registers", "spilled bytes", "shared KB", "products", "cp.async")
    rows = []
    worst: dict[tuple[Any, ...], dict[str, Any]] = {}  # of the kernels that a program compiles for several sizes
    for r in records:
        key = r["kernel"], r["dtype"], r["cap"], r["dim"]
        worst[key] = max(worst.get(key, r), r, key=lambda r: (r["spilled"], r["registers"]))
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for key in sorted(worst):
        groups.setdefault(key[:3], []).append(worst[key])
    for case, group in groups.items():
        columns = [
            [r["dim"] for r in group],
            [r["registers"] for r in group],
            [r["spilled"][0] for r in group],
            [round(r["shared"] / 1024) for r in group],
            sorted({kind for r in group for kind in r["mma"]}) or ["-"],
        ]
        asynchronous = {r["cp_async"] > 0 for r in group}
        cells = [*case, *(", ".join(map(str, x if len(set(x)) > 1 else x[:1])) for x in columns)]
        cells.append("some" if len(asynchronous) > 1 else "yes" if asynchronous.pop() else "no")
        rows.append(list(map(str, cells)))
    return table(header, rows)


def main() -> None:
    parser = plain_parser(__doc__)
    parser.add_argument("--caps", type=int, nargs="+", default=list(CAPS), help="compute capabilities")
    parser.add_argument("--one", nargs=3, metavar=("CAP", "DIM", "DTYPE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    with exit_on_error(args.debug):
        if args.one:
            print(json.dumps(check(int(args.one[0]), int(args.one[1]), args.one[2])))
            return
        if find_spec("triton") is None:
            raise ValueError("the package triton, which compiles the kernels, is missing: pip install triton")
        print(page(check_all(args.caps)))


if __name__ == "__main__":
    main()
