"""Writes the report of `tools/benchmark/bench_gpu.py`: one JSON file, one Markdown page, and plots."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.measure import MEMORY, Result, say
from benchmarks.reports.report import absent, each, plot, table
from benchmarks.reports.summary import summary
from vil_dense.files import write_whole

MODES = {"backbone": "Forward", "train": "Training step", "op": "The mLSTM alone, forward and backward"}
NAME = "bench_gpu"


def read_parts(out: Path, names: Sequence[str]) -> dict[str, Result]:
    """Returns what the parts have written so far, in the order of `names`."""
    paths = {name: out / f"parts/{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def publish(out: Path, names: Sequence[str]) -> None:
    """Writes bench_gpu.json and bench_gpu.md, each whole or not at all."""
    parts = read_parts(out, names)
    write_whole(out / f"{NAME}.json", lambda path: path.write_text(json.dumps(parts, indent=1) + "\n"))
    write_whole(out / f"{NAME}.md", lambda path: path.write_text(page(parts)))


def page(parts: dict[str, Result]) -> str:
    """Returns the Markdown page."""
    card: Result = next(iter(parts.get("card", {}).get("rows", [])), {})
    facts = "\n".join(f"- {key}: {value}" for key, value in card.items())
    status = table(
        ["part", "s", "result"],
        [[name, f"{part['seconds']:.0f}", part["note"] or "complete"] for name, part in parts.items()],
    )
    texts = [f"# {card.get('device', 'unknown device')}", facts, "## Parts", status]
    for name, title in (
        ("kernels", "mLSTM against the recurrence in float64"),
        ("layer", "Fused layer against its plain form"),
    ):
        if rows := rows_of(parts, name):
            texts += [f"## {title}", deviations(rows)]
    timed = timings(parts)
    for mode, title in MODES.items():
        rows = [row for row in timed if row["mode"] == mode]
        if rows:
            texts += [
                f"## {title}, ratios (below 1 ours is faster or smaller)",
                summary(rows, mode),
                each(rows),
                absent(rows),
            ]
    if timed:
        texts.append(f"Memory: {MEMORY['cpu' if card.get('device_type') == 'cpu' else 'cuda']}.")
    texts += [f"## Tests\n\n{row}" for row in rows_of(parts, "tests")]
    texts += [training(row) for row in rows_of(parts, "learn")]
    return "\n\n".join(text for text in texts if text) + "\n"


def rows_of(parts: dict[str, Result], name: str) -> list[Result]:
    """Returns the rows of a part; empty if it has not run."""
    return parts.get(name, {}).get("rows", [])


def timings(parts: dict[str, Result]) -> list[Result]:
    """Returns the rows of all contests."""
    return [row for part in parts.values() for row in part["rows"] if "contestants" in row]


def deviations(rows: Sequence[Result]) -> str:
    """Returns the worst deviation of each backend, precision and width; refused and left out ones with the reason."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for row in rows:
        groups.setdefault((row["backend"], row["dtype"], row["width"]), []).append(row)
    lines = []
    for key, group in groups.items():
        measured = [row["deviation"] for row in group if "deviation" in row]
        reasons = {
            f"{word.replace('_', ' ')}: {row[word]}" for row in group for word in ("refused", "left_out") if word in row
        }
        worst, tolerance = (f"{max(measured):.1e}", f"{group[0]['tolerance']:.0e}") if measured else ("-", "-")
        lines.append([*key, str(len(group)), worst, tolerance, "; ".join(sorted(reasons)) or "right"])
    return table(["backend", "precision", "width", "cases", "largest deviation", "tolerance", "result"], lines)


def training(row: Result) -> str:
    """Returns the paragraph about the training."""
    curve = row["loss"]
    speed = row["steps"] * row["batch"] / row["seconds"]
    facts = f"{row['network']}, backend {row['backend']}: {row['steps']} steps of {row['batch']} pictures"
    facts += f" in {row['seconds']:.0f} s ({speed:.0f} pictures/s)"
    result = f"loss {curve[0]:.3f} to {curve[-1]:.3f}, held-out mIoU **{row['miou']:.1f}** (12 classes, one seed)"
    classes = ", ".join(f"{name} {iou:.0f}" for name, iou in row["iou"].items())
    return f"## Training on the made sample\n\n{facts}; {result}; {classes}.\n\n![loss](training.png)"


def plots(out: Path, names: Sequence[str]) -> None:
    """Draws time and memory against tokens, and the loss curve; says so where matplotlib is missing."""
    parts = read_parts(out, names)
    card = next(iter(rows_of(parts, "card")), {})
    try:
        for mode in MODES:
            rows = [row for row in timings(parts) if row["mode"] == mode]
            if rows:
                found = dict(
                    mode=mode, device=card.get("device"), dtype="bfloat16", threads=card.get("threads"), rows=rows
                )
                write_whole(out / f"{mode}.png", partial(plot, found))
        for row in rows_of(parts, "learn"):
            write_whole(out / "training.png", partial(draw_loss, row, str(card.get("device"))))
    except ModuleNotFoundError as error:
        say(f"no plots without {error.name}")


def draw_loss(row: Result, device: str, path: Path) -> None:
    """Draws the loss of each step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot(row["loss"], linewidth=1)
    axis.set(xlabel="step", ylabel="loss", title=f"{row['network']}, {device}, mIoU {row['miou']:.1f}")
    axis.grid(alpha=0.3)
    figure.savefig(path)
