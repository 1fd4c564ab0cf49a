"""Writes the results as JSON, as a Markdown page and as a plot."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.measure import MIB, Result, reasons
from vil_dense.files import save_json, write_whole

IMAGENET = 1_281_167
PAPER_HOURS = {"vil-tiny": "5.0", "vil-small": "8.7", "vil-base": "16.6", "vil-large": "45.1"}
"""Table 4 of the paper: hours of an epoch on A100s for ViL with torch.compile."""
TITLES = {"backbone": "forward", "train": "training step", "op": "mLSTM"}
RIVALS = {"official": "official", "vit": "ViT", "mlstm_kernels": "mlstm_kernels", "ours": "ours"}
RIVALS |= {"ours-chunkwise": "chunkwise", "ours-parallel": "parallel", "floor": "its own matrix products alone"}
QUANTITIES = {"median_s": "time", "peak_bytes": "memory"}


def best(results: Mapping[str, Result]) -> dict[str, tuple[str, Result]]:
    """Returns the fastest contestant of each family, with its name."""
    found: dict[str, tuple[str, Result]] = {}
    for name, result in results.items():
        if "peak_bytes" in result:
            rival = found.get(result["family"])
            if rival is None or result["median_s"] < rival[1]["median_s"]:
                found[result["family"]] = name, result
    return found


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def ratios(rows: Sequence[Result], mode: str) -> str:
    """Returns the table of ratios of configs/results/README.md, each family in its faster form; empty without times.

    It has a row for each rival and a column for each size. Rows of "ours-triton" come first where it was timed.
    """
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    lines = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        cells = {row["size"]: best(row["contestants"]) for row in rows if row["variant"] == variant}
        families = {family for found in cells.values() for family in found if family.startswith("ours")}
        for own in sorted(families, key=lambda family: ("triton" not in family, family)):
            for label, values in ratios_of(own, cells):
                shown = [values.get(size, "-") for size in sizes]
                lines.append([f"{variant}, {own}", f"{TITLES.get(mode, mode)}: {label}", *shown])
    return table(["", "", *(size.replace("x", " x ") for size in sizes)], lines) if lines else ""


def ratios_of(own: str, cells: dict[str, dict[str, tuple[str, Result]]]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the label and the cells of each row of one family: milliseconds, then ratios."""
    ours = {size: found[own][1] for size, found in cells.items() if own in found}
    yield "ms", {size: f"{1e3 * result['median_s']:.1f}" for size, result in ours.items()}
    for rival, name in RIVALS.items():
        for key, quantity in QUANTITIES.items():
            if rival == own or (rival == "floor" and quantity == "memory"):
                continue
            values = {
                size: f"{result[key] / cells[size][rival][1][key]:.2f}"
                for size, result in ours.items()
                if rival in cells[size] and cells[size][rival][1][key]
            }
            if values:
                yield f"{quantity} / {name}", values


def entries(rows: Sequence[Result], key: str) -> Iterator[tuple[Result, str, Result]]:
    """Yields row, contestant's name and its result, of those that have `key`."""
    return ((row, name, r) for row in rows for name, r in row["contestants"].items() if key in r)


def each(rows: Sequence[Result]) -> str:
    """Returns a table of every contestant that was timed."""
    lines = []
    for row, name, r in entries(rows, "peak_bytes"):
        times = [f"{1e3 * t:.1f}" for t in (r["median_s"], r["min_s"], *r["quartiles_s"])]
        deviations = ", ".join(f"{check['deviation']:.0e} ({check['against']})" for check in r["checks"])
        memory = f"{r['peak_bytes'] / MIB:.1f}"
        lines.append([row["variant"], row["size"], name, *times, str(r["repeats"]), memory, deviations or "unchecked"])
    header = ["", "size x batch", "contestant", "median ms", "min", "quartile 1", "quartile 3", "repeats", "MiB"]
    return table([*header, "deviation"], lines)


def absent(rows: Sequence[Result]) -> str:
    """Lists the contestants that were refused or left out, with the reason."""
    lines = []
    for key in ("refused", "left_out"):
        lines += [
            f"- {row['variant']} {row['size']}: {name} {reasons(result)}" for row, name, result in entries(rows, key)
        ]
    return "\n".join(lines)


def epochs(found: Result) -> str:
    """Returns the hours of one ImageNet epoch on this device, from the step at 224 px; nothing in other modes."""
    lines = []
    for row in found["rows"] if found["mode"] == "train" else ():
        fastest = best(row["contestants"])
        fastest.pop("floor", None)
        if not row["size"].startswith("224x"):
            continue
        hours = [f"{name} {IMAGENET * r['median_s'] / row['batch'] / 3600:.1f}" for name, r in fastest.values()]
        whole = not found["arguments"].get("dim") and not found["arguments"].get("depth")
        paper = PAPER_HOURS.get(row["variant"], "-") if whole else "-"
        lines.append([row["variant"], row["size"], ", ".join(hours), paper])
    header = ["", "size x batch", f"hours on {found['device']}", "in the paper (A100)"]
    title = f"An epoch of ImageNet, {IMAGENET} pictures, forward and backward alone (no data loading, no optimizer):"
    return f"{title}\n\n{table(header, lines)}" if lines else ""


def facts(found: Result) -> str:
    """Lists what the numbers depend on."""
    keys = (
        "device",
        "gpu",
        "dtype",
        "tf32",
        "threads",
        "environment",
        "config",
        "versions",
        "commits",
        "compile",
        "memory",
    )
    return "\n".join(f"- {key}: {found[key]}" for key in keys if found.get(key))


def page(found: Result) -> str:
    """Returns the Markdown page."""
    meaning = "Ours over the others, each in its faster mode; below 1 ours is faster or smaller."
    rows = found["rows"]
    parts = [f"# {found['mode']}", facts(found), meaning, ratios(rows, found["mode"]), epochs(found)]
    return "\n\n".join(part for part in [*parts, "Everyone:", each(rows), absent(rows)] if part) + "\n"


def plot(found: Result, path: Path) -> None:
    """Plots time and memory of one sample against its tokens, a line for each contestant."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    panels = figure.subplots(1, 2)
    quantities = (("median_s", 1e3, "ms a sample"), ("peak_bytes", 1 / MIB, "MiB a sample"))
    for axis, (key, scale, label) in zip(panels, quantities, strict=True):
        lines: dict[str, list[tuple[int, float]]] = {}
        for row, name, result in entries(found["rows"], "peak_bytes"):
            if result[key] > 0:  # the axes are logarithmic
                point = row["tokens"], scale * result[key] / row["batch"]
                lines.setdefault(f"{row['variant']} {name}", []).append(point)
        pairs = list(dict.fromkeys(name.removesuffix("-compiled") for name in lines))
        for name, points in lines.items():
            # Eager and compiled have one colour. Dashes let a line be seen that lies under another.
            style = "--" if name.endswith("-compiled") else "-"
            color = f"C{pairs.index(name.removesuffix('-compiled'))}"
            axis.plot(*zip(*sorted(points), strict=True), style, color=color, marker="o", markersize=4, label=name)
        axis.set(xscale="log", yscale="log", xlabel="tokens of a sample", ylabel=label)
        tokens = sorted({tokens for points in lines.values() for tokens, _ in points})
        axis.set_xticks(tokens, map(str, tokens))
        axis.set_xticks([], minor=True)
        axis.grid(alpha=0.3, which="both")
        if lines and key == "median_s":
            axis.legend(fontsize="x-small")
    figure.suptitle(f"{found['mode']}, {found['device']}, {found['dtype']}, {found['threads']} threads")
    figure.savefig(path)


def write(found: Result, folder: Path) -> None:
    """Writes JSON, page and plot, each whole or not at all."""
    path = folder / found["mode"]
    save_json(path.with_suffix(".json"), found)
    write_whole(path.with_suffix(".md"), lambda part: part.write_text(page(found), encoding="utf-8"))
    try:
        write_whole(path.with_suffix(".png"), lambda part: plot(found, part))
    except ModuleNotFoundError as error:
        print(f"no plot without {error.name}: pip install '.[seg]'", flush=True)


def gpu_page(parts: dict[str, Result]) -> str:
    """Returns the page of `tools/benchmark/bench_gpu.py`: what was measured on, how each part ended, and its tables."""
    runs = [run for part in parts.values() for run in part["runs"]]
    status = [[name, f"{part['seconds']:.0f}", part["note"] or "complete"] for name, part in parts.items()]
    texts = [f"# {runs[0]['device'] if runs else 'nothing was measured'}", facts(runs[0]) if runs else ""]
    texts += ["## Parts", table(["part", "s", "result"], status)]
    for name, part in parts.items():
        texts.append(f"## {name}" if part["runs"] else "")
        for mode, dtype in dict.fromkeys((run["mode"], run["dtype"]) for run in part["runs"]):
            same = [run for run in part["runs"] if (run["mode"], run["dtype"]) == (mode, dtype)]
            rows = [row for run in same for row in run["rows"]]
            if rows:
                texts += [f"{mode}, {dtype}:", ratios(rows, mode), each(rows), absent(rows)]
            texts += [training(run["training"]) for run in same if "training" in run]
    return "\n\n".join(text for text in texts if text) + "\n"


def training(result: Result) -> str:
    """Returns the paragraph about a training."""
    speed = result["steps"] * result["batch"] / result["seconds"]
    size = (
        f"{result['steps']} steps of {result['batch']} pictures in {result['seconds']:.0f} s ({speed:.0f} pictures/s)"
    )
    classes = ", ".join(f"{name} {iou:.0f}" for name, iou in result["iou"].items())
    ends = f"loss {result['loss'][0]:.3f} to {result['loss'][-1]:.3f}"
    return f"Backend {result['backend']}: {size}; {ends}, held-out mIoU **{result['miou']:.1f}** (one seed); {classes}."
