"""Defines command lines: `{bad}` is the folder that `bad_inputs.py` writes, `{out}` that of the results."""

from typing import NamedTuple


class Bad(NamedTuple):
    """Stores a command line, what its error names, and its exit code: 1 where a run went on with sound inputs."""

    command: str
    names: tuple[str, ...]
    code: int = 2


ONE = "{bad}/sample/images/validation/a.jpg"
NO_CASE = "volumes/predict {bad}/volumes.py {bad}/volumes.pth"


def bad(command: str, *names: str, code: int = 2) -> Bad:
    return Bad(command, names, code)


def predict(rest: str, *names: str, code: int = 2) -> Bad:
    return Bad(f"predict {{bad}}/config.py {{bad}}/good.pth {rest} --out {{out}}", names, code)


def picture(name: str, *names: str) -> Bad:
    path = f"{{bad}}/pictures/{name}"
    return predict(path, "1 of 1", path, *names, code=1)


def train(options: str, *names: str) -> Bad:
    return Bad(f"train {{bad}}/config.py --work-dir {{out}} --cfg-options {options}", names)


def run_test(options: str, *names: str) -> Bad:
    return Bad(f"test {{bad}}/config.py {{bad}}/good.pth --work-dir {{out}} {options}", names)


def labels(name: str, *names: str, more: str = "") -> Bad:
    roots = " ".join(f"{part}_dataloader.dataset.data_root={{bad}}/labels/{name}" for part in ("train", "val"))
    return train(f"{roots} {more}", *names)


def volume(name: str, *names: str) -> Bad:
    path = f"{{bad}}/volumes/{name}"
    return bad(f"{NO_CASE} {path} --out {{out}}", "1 of 1", path, *names, code=1)


def plan(name: str, *names: str) -> Bad:
    path = f"{{bad}}/plans/{name}.json"
    return bad(f"{NO_CASE} {{bad}}/case.nii.gz --out {{out}} --cfg-options plan={path}", *names)


def datalist(name: str, *names: str) -> Bad:
    return bad(f"volumes/plan {{bad}}/lists --datalist {name}.json --out {{out}}/plan.json", *names)


def checkpoint(name: str, *names: str, tool: str = "test") -> Bad:
    rest = dict(test="--work-dir {out}", predict="{bad}/sample/images/validation --out {out}")[tool]
    path = f"{{bad}}/checkpoints/{name}"
    return bad(f"{tool} {{bad}}/config.py {path} {rest}", path, *names)


def config(name: str, *names: str) -> Bad:
    return bad(f"train {{bad}}/configs/{name} --work-dir {{out}}", *names)
