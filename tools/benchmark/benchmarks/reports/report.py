"""Writes the results as JSON, as a Markdown page and as a plot."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.measure import MIB, Result, say, words
from vil_dense.files import write_whole

IMAGENET = 1_281_167
PAPER_HOURS = {
    "vil-tiny": ("5.0", "7.3"),
    "vil-small": ("8.7", "14.0"),
    "vil-base": ("16.6", "28.2"),
    "vil-large": ("45.1", "76.4"),
}
"""Table 4 of the paper: hours of an epoch on A100s for ViL with torch.compile and for Vim."""
COMPARED = ("ours", "ours-parallel")
"""Those of our own families that our other families are compared with, too."""


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


def ratios(rows: Sequence[Result]) -> str:
    """Returns a table of ours over the others, each in its best mode, which is named."""
    families = list(dict.fromkeys(family for row in rows for family in best(row["contestants"])))
    own = [family for family in families if family.startswith("ours")]
    others = [family for family in families if family not in own or (family in COMPARED and len(own) > 1)]
    lighter = [family for family in others if family != "floor"]
    header = ["", "size x batch", "tokens", "ours", "ms", *(f"time / {other}" for other in others), "MiB"]
    header += [f"memory / {other}" for other in lighter]
    lines = []
    for row in rows:
        fastest = best(row["contestants"])
        for family in (family for family in own if family in fastest):
            name, ours = fastest[family]
            rivals = {other: fastest.get(other) for other in others if other != family}
            line = [row["variant"], row["size"], str(row["tokens"]), name, f"{1e3 * ours['median_s']:.1f}"]
            line += [compared(ours, rivals.get(other), "median_s") for other in others]
            line += [f"{ours['peak_bytes'] / MIB:.1f}"]
            line += [compared(ours, rivals.get(other), "peak_bytes") for other in lighter]
            lines.append(line)
    return table(header, lines)


def compared(ours: Result, other: tuple[str, Result] | None, key: str) -> str:
    """Formats the ratio of our value to that of another contestant."""
    return "-" if other is None or not other[1][key] else f"{ours[key] / other[1][key]:.2f} ({other[0]})"


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
            f"- {row['variant']} {row['size']}: {name} {words(result)}" for row, name, result in entries(rows, key)
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
        paper = PAPER_HOURS.get(row["variant"], ("-", "-")) if whole else ("-", "-")
        lines.append([row["variant"], row["size"], ", ".join(hours), *paper])
    header = ["", "size x batch", f"hours on {found['device']}", "ViL in the paper (A100)", "Vim in the paper (A100)"]
    title = f"An epoch of ImageNet, {IMAGENET} pictures, forward and backward alone (no data loading, no optimizer):"
    return f"{title}\n\n{table(header, lines)}" if lines else ""


def page(found: Result) -> str:
    """Returns the Markdown page."""
    keys = ("device", "dtype", "tf32", "threads", "environment", "config", "versions", "commits", "compile", "memory")
    facts = "\n".join(f"- {key}: {found[key]}" for key in keys if found.get(key))
    title = f"# {found['mode']}\n\n{facts}"
    meaning = "Ours over the others, each in its faster mode; below 1 ours is faster or smaller."
    rows = found["rows"]
    parts = [title, meaning, ratios(rows), epochs(found), "Everyone:", each(rows), absent(rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


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
        for name, points in lines.items():
            # Dashes let a line be seen that lies under another, as eager and compiled ones do.
            style = "--" if name.endswith("-compiled") else "-"
            axis.plot(*zip(*sorted(points), strict=True), style, marker="o", markersize=4, label=name)
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
    writers: dict[str, Callable[[Path], object]] = {
        "json": lambda path: path.write_text(json.dumps(found, indent=1) + "\n"),
        "md": lambda path: path.write_text(page(found)),
        "png": lambda path: plot(found, path),
    }
    for suffix, writer in writers.items():
        try:
            write_whole(folder / f"{found['mode']}.{suffix}", writer)
        except ModuleNotFoundError as error:
            say(f"no plot without {error.name}: pip install '.[seg]'")
