"""Plans the training on a folder of volumes.

Command: python tools/volumes/plan.py DATA --out plan.json [--gpu-memory 8] [--cpu-hours 2] [--set KEY=VALUE ...]

Reads and checks every file once and writes a JSON, which may be edited. The next command is
python tools/train.py configs/vil_unet3d_volumes.py --cfg-options data_root=DATA plan=plan.json
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from vil_dense.command_line import Overrides, at_least, plain_parser
from vil_dense.files import check_file, save_json


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = plain_parser(__doc__)
    parser.add_argument("data", help="folder of the data set")
    parser.add_argument("--datalist", help="JSON in place of the folder's dataset.json; its paths are relative to DATA")
    parser.add_argument("--unlabelled", action="store_true", help="plan a pretraining: DATA holds volumes, no labels")
    parser.add_argument("--out", type=Path, default=Path("plan.json"), help="file to write")
    parser.add_argument("--gpu-memory", type=float, metavar="GIB", help="memory that a training step may take")
    parser.add_argument("--cpu-hours", type=float, metavar="H", help="CPU time that all steps may take on this machine")
    parser.add_argument("--steps", type=at_least(1), default=2000, help="steps of the training (default 2000)")
    parser.add_argument("--patch-budget", type=at_least(1), default=96**3, help="most voxels of a patch (default 96^3)")
    parser.add_argument(
        "--set", nargs="+", action=Overrides, default={}, help="values that replace those of the rules, key=value"
    )
    return parser.parse_args()


def describe_labels(plan: dict[str, Any]) -> str:
    """Returns the names of the classes or regions, and the value of voxels without annotation."""
    kind = "regions" if plan.get("regions_class_order") else "classes"
    ignored = f", without annotation: {plan['ignore_label']}" if plan.get("ignore_label") is not None else ""
    return f"{kind}: {', '.join(plan['labels'])}{ignored}"


def describe(made: dict[str, Any]) -> list[str]:
    """Returns lines on what was chosen and why."""
    plan, cost = made["plan"], made["cost"]
    lines = [
        f"cases: {made['data']['cases']}, {describe_labels(plan)}, channels: {', '.join(plan['channels'])}",
        f"spacing: {plan['spacing_mm']} mm, median size {plan['median_size_vox']} voxels",
        f"patch: {plan['patch_vox']} voxels, batch {plan['batch_size']}; intensity: {plan['intensity'][0]['rule']}",
        f"sequence blocks: {plan['network']['depths']} at the scales, tokens of a patch {cost['tokens']}",
        f"memory of a training step: about {cost['training_gib']} GiB in float32",
    ]
    if "training_cpu_hours" in cost:
        lines.append(
            f"time of {cost['steps']} steps: about {cost['training_cpu_hours']:.2g} CPU hours, without validation"
        )
    if reason := made["target"]["reason"]:
        lines.append(f"target: {reason}")
    sided = made["data"]["sided"]
    named = [f"{name} (by {reason})" for name, reason in sided.items()]
    why = f", not left and right because of {', '.join(named[:4])}{', ...' * (len(named) > 4)}" if sided else ""
    lines.append(f"mirrored along: axes {plan['flip_axes']}{why} (--set flip_axes=[...] overrides)")
    if coarse := made["low_resolution"]:
        spacing = ",".join(f"{mm:g}" for mm in coarse["spacing_mm"])
        lines.append(
            f"low resolution: a patch of {coarse['patch_mm']} mm sees too little of {coarse['structure']}, whose "
            f"median extent is {coarse['extent_mm']} mm; with --set spacing_mm=[{spacing}] it sees all of it, and a "
            "cascade uses both spacings"
        )
    return lines


def main() -> None:
    args = parse_args()

    from mmengine.config import Config

    from vil_dense.medical.data.plan import make_plan
    from vil_dense.medical.data.plan_sizes import Target
    from vil_dense.medical.datalists.datalist import read_datalist
    from vil_dense.medical.datalists.inputs import read_unlabelled
    from vil_dense.mm.cli.arguments import report_errors
    from vil_dense.progress import Progress

    with report_errors(args.debug):
        check_file(args.out)
        target = Target(args.gpu_memory, args.cpu_hours, args.steps, args.patch_budget)
        values = Config(dict())
        values.merge_from_dict(args.set)
        names = args.set.get("channels") or [""]
        count = 1 if isinstance(names, str) else len(names)
        with Progress("reading") as progress:
            made = make_plan(
                read_unlabelled(args.data, args.datalist, count)
                if args.unlabelled
                else read_datalist(args.data, args.datalist),
                set_values=values.to_dict(),
                target=target,
                report=progress,
            )
        save_json(args.out, made)
        for line in describe(made):
            print(line)
        for line in made["warnings"]:
            print(f"warning: {line}", file=sys.stderr)
        print(f"plan: {args.out}")


if __name__ == "__main__":
    main()
