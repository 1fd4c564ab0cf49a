"""Measures time and memory of contestants that have passed their checks."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.contestants.case import Case, Contestant, LeftOut
from benchmarks.contestants.table import Make

WARM_UP, FEW_REPEATS = 2, 3
MIB = 2**20
MEMORY = {
    "cpu": "largest sum of live bytes: what torch's CPU allocator gave out during a call and had not got back "
    "(torch.profiler); it sees eager and compiled code alike, and not what lived before: weights and input",
    "cuda": "torch.cuda.max_memory_allocated during a call, less what was allocated before: weights and input",
}
COMPILERS = ("torch._dynamo", "torch._inductor", "triton")
NO_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
Result = dict[str, Any]


def contest(case: Case, makers: Mapping[str, Make], repeats: int, patience: float) -> dict[str, Result]:
    """Checks and times all contestants; returns times and memory of each, or why it was refused or left out."""
    torch._dynamo.reset()
    results: dict[str, Result] = {}
    ready: dict[str, Contestant] = {}
    for name, make in makers.items():
        print(f"  checking {name}", flush=True)
        contestant, results[name] = admit(make, case)
        if contestant is None:
            print(f"  {name} {reasons(results[name])}", flush=True)
        else:
            ready[name] = contestant
    print(f"  timing {', '.join(ready) or 'nobody'}", flush=True)
    for name, found in take_turns(ready, repeats, patience, case.device).items():
        if isinstance(found, list):
            found = {**spread(found), **memory(ready[name], case.device)}
        results[name].update(found)
        if "peak_bytes" in found:
            print(f"    {name}: {1e3 * found['median_s']:.1f} ms, {found['peak_bytes'] / MIB:.1f} MiB", flush=True)
        else:
            print(f"  {name} {reasons(results[name])}", flush=True)
    return results


def reasons(result: Result) -> str:
    """Returns why a contestant has no times."""
    return "; ".join(f"is {key.replace('_', ' ')}: {result[key]}" for key in ("refused", "left_out") if key in result)


def admit(make: Make, case: Case) -> tuple[Contestant | None, Result]:
    """Returns the contestant and its deviation; or None and the reason if it is wrong or cannot take part."""
    try:
        contestant = make(case)
        checks: list[Result] = [
            dict(against=check.against, deviation=check.deviation(), tolerance=check.tolerance)
            for check in contestant.checks
        ]
    except Exception as error:  # other authors' code and compilers raise any error, and the others are to go on
        return None, failure(error)
    for check in checks:
        if not check["deviation"] <= check["tolerance"]:
            by = f"{check['deviation']:.1e} of the largest value, tolerance {check['tolerance']:.0e}"
            return None, dict(refused=f"it deviates by {by}, held against: {check['against']}")
    # Its checks may hold a second network, which is to be freed before anything is timed.
    return contestant._replace(checks=()), dict(family=contestant.family, checks=checks)


def failure(error: Exception) -> Result:
    """Returns why a contestant is left out (memory, compiler or a part is missing) or refused (its code fails)."""
    message = " ".join(str(error).split())[:300]
    if isinstance(error, LeftOut):
        return dict(left_out=message)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(text in message for text in NO_MEMORY):
        return dict(left_out=f"it ran out of memory ({message})")
    if type(error).__module__.startswith(COMPILERS):
        return dict(left_out=f"it could not be compiled ({type(error).__name__}: {message})")
    return dict(refused=f"it failed with {type(error).__name__}: {message}")


def take_turns(
    ready: Mapping[str, Contestant], repeats: int, patience: float, device: torch.device
) -> dict[str, list[float] | Result]:
    """Times calls in rounds, fewer for those slower than `patience`; returns seconds, or why there are none."""
    times: dict[str, list[float]] = {name: [] for name in ready}
    lost: dict[str, Result] = {}
    slow: set[str] = set()
    for turn in range(-WARM_UP, repeats):
        for name in [name for name in ready if name not in lost and (name not in slow or 0 <= turn < FEW_REPEATS)]:
            try:
                seconds = stopwatch(ready[name].step, device)
            except Exception as error:  # as in `admit`
                lost[name] = failure(error)
                continue
            if turn >= 0:
                times[name].append(seconds)
            if seconds > patience:
                slow.add(name)
    return {name: lost.get(name, times[name]) for name in ready}


def stopwatch(step: Callable[[], object], device: torch.device) -> float:
    """Returns the seconds of one call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def spread(times: list[float]) -> Result:
    """Summarises times in s: median, minimum, quartiles and number."""
    quartiles = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else 3 * times
    ends = [quartiles[0], quartiles[2]]
    return dict(median_s=statistics.median(times), min_s=min(times), quartiles_s=ends, repeats=len(times))


def memory(contestant: Contestant, device: torch.device) -> Result:
    """Returns the peak memory of a contestant, or why there is none."""
    try:
        return dict(peak_bytes=peak_memory(contestant.step, device))
    except Exception as error:  # as in `admit`
        return failure(error)


def peak_memory(step: Callable[[], object], device: torch.device) -> int:
    """Returns bytes above what lived before, see `MEMORY`. The step itself drops the gradients of the calls before."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        stopwatch(step, device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak
