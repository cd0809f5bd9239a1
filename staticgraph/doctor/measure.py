"""The benchmark on a GPU: our graphs replayed on data that is on the device, in turns with the peers.

Run as a module this is the measuring process: ``python -m staticgraph.doctor.measure PLAN RECORD`` reads the plan
(JSON) and appends to the record a line of JSON for each thing that it finds, so that nothing is lost where a kernel
takes the process with it. The copy bandwidth comes first. Each case is checked before it is timed; rounds are taken in
turns; a time is the median over rounds of samples of as many calls as take about 10 ms.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import staticgraph as sg
from staticgraph.compiler.options import OPTIONS
from staticgraph.runtime.cuda.device import Device, Event, Stream, find_device
from staticgraph.runtime.cuda.memory import Block, pool_of

from .gpu_cases import CASES, SIZES, Array, GpuCase, Sizes, build, draw
from .gpu_peers import PEERS, Absent, GpuPeer, Ready, missing

OURS = "staticgraph"
SAMPLE_SECONDS = 10e-3
SECONDS_KEPT = 8.0
"""What each case that is still to come may need without peers."""

SECONDS_OF_A_PEER = 25.0
"""What preparing a peer may take."""


@dataclass(frozen=True)
class Plan:
    """What is measured: a name of `SIZES`, cases, rounds, the most calls of a sample, and until when (seconds since
    the epoch)."""

    sizes: str
    cases: tuple[str, ...]
    rounds: int
    most_calls: int
    deadline: float


class Replay:
    """A captured call, replayed as often as wanted with nothing in between: what a call costs on the device."""

    def __init__(self, executable: Any, device: Device) -> None:
        prepared = executable._bindings[executable._last]
        self._graph = next(reversed(prepared.graphs.values()))
        self._stream: Stream = executable._stream
        self._device = device
        self._kept = executable

    def sample(self, count: int) -> float:
        """Seconds of one of so many replays."""
        with self._device:
            start, stop = Event(self._device, timing=True), Event(self._device, timing=True)
            start.record(self._stream.handle)
            for _ in range(count):
                self._graph.launch()
            stop.record(self._stream.handle)
            return stop.seconds_since(start) / count


def copy_bandwidth(device: Device, nbytes: int, rounds: int) -> float:
    """Bytes read and written per second by the driver's own copy between two parts of device memory."""
    with device:
        stream = Stream(device)
        source, target = Block(device, nbytes, "a copy"), Block(device, nbytes, "a copy")
        device.call("cuMemsetD8Async", source.address, 1, nbytes, stream.handle)
        seconds = []
        for _ in range(rounds + 1):
            start, stop = Event(device, timing=True), Event(device, timing=True)
            start.record(stream.handle)
            device.call("cuMemcpyDtoDAsync_v2", target.address, source.address, nbytes, stream.handle)
            stop.record(stream.handle)
            seconds.append(stop.seconds_since(start))
    return 2 * nbytes / statistics.median(seconds[1:])


def upload(device: Device, array: Array) -> sg.DeviceArray:
    """An array's copy on the device."""
    from staticgraph.runtime.cuda.exchange import DeviceArray

    with device:
        copy = DeviceArray(device, array.shape, array.dtype)
        stream = device.transfers()
        device.call("cuMemcpyHtoDAsync_v2", copy.address, array.ctypes.data, array.nbytes, stream.handle)
        stream.synchronize()
    return copy


def prepare(case: GpuCase, sizes: Sizes, device: Device, inputs: dict[str, Any], state: dict[str, Array]) -> Ready:
    """Compile a case and call it once, on inputs that are on the device."""
    options: dict[str, Any] = {"results": "device"}
    if case.tf32:
        if "tf32" not in OPTIONS:
            raise Absent("this version has no option for TF32")
        options["tf32"] = True
    placeholders, (outputs, updates) = build(case, sizes, state)
    executable = sg.compile(placeholders, outputs, updates=updates, device="cuda", options=options)
    held = executable(*inputs.values())
    results = [each.numpy() for each in held]
    replay = Replay(executable, device)

    def sample(count: int) -> float:
        assert held     # the replays write there
        return replay.sample(count)

    return Ready(results, sample)


class Contest:
    """One case: who takes part, who does not and why."""

    def __init__(self, case: GpuCase, sizes: Sizes, device: Device) -> None:
        self.case = case
        self.sizes = sizes
        self.device = device
        self.ready: dict[str, Ready] = {}
        self.errors: dict[str, float] = {}
        self.absent: dict[str, str] = {}
        self.wrong: dict[str, str] = {}
        self.first_call: dict[str, float] = {}
        self.inputs, self.state = draw(case, sizes)
        self._there = {name: upload(device, array) for name, array in self.inputs.items()}

    def admit(self, name: str, prepare: Callable[[dict[str, Any], dict[str, Array]], Ready]) -> None:
        """Let somebody take part, if the results are right."""
        begun = time.perf_counter()
        try:
            ready = prepare(self._there, self.state)
        except Absent as reason:
            self.absent[name] = str(reason)
            return
        except Exception as error:     # a peer that fails must not end the run
            lines = str(error).splitlines()
            self.absent[name] = f"failed: {type(error).__name__}: {lines[0][:300] if lines else ''}"
            return
        self.first_call[name] = time.perf_counter() - begun
        off = self.errors[name] = self.case.error(ready.results, self.inputs, self.state)
        if off <= self.case.tolerance:
            self.ready[name] = ready
        else:
            self.wrong[name] = f"results are off by {off:.1e} of their scale, allowed is {self.case.tolerance:.0e}"

    def time(self, rounds: int, most_calls: int) -> dict[str, list[float]]:
        """Samples of everybody, in turns."""
        counts = {}
        for name, ready in self.ready.items():
            once = ready.sample(1) if most_calls == 1 else min(ready.sample(1), ready.sample(2))
            counts[name] = max(1, min(most_calls, int(SAMPLE_SECONDS / max(once, 1e-7))))
        samples: dict[str, list[float]] = {name: [] for name in self.ready}
        order = list(self.ready)
        for number in range(rounds):
            for name in [*order[number % len(order):], *order[:number % len(order)]] if order else ():
                samples[name].append(self.ready[name].sample(counts[name]))
        return samples

    def record(self, plan: Plan) -> dict[str, Any]:
        """Time it; all that was found."""
        case, nbytes = self.case, self.case.nbytes(self.sizes)
        contestants = {}
        for name, samples in self.time(plan.rounds, plan.most_calls).items():
            low, median, high = (float(each) for each in np.percentile(samples, (25, 50, 75)))
            contestants[name] = {
                "median_ms": median * 1e3, "low_ms": low * 1e3, "high_ms": high * 1e3, "error": self.errors[name],
                "first_call_s": self.first_call[name], "gb_s": nbytes / median / 1e9,
                "tflop_s": case.flops(self.sizes) / median / 1e12, "remark": self.ready[name].remark}
        return {"case": case.name, "title": case.title, "bytes": nbytes, "flops": case.flops(self.sizes),
                "shapes": {name: list(each.shape) for name, each in self.inputs.items()}, "goal_ms": case.goal,
                "device": self.device.name,
                "contestants": contestants, "absent": self.absent, "wrong": self.wrong}


def connected(peers: Sequence[GpuPeer]) -> tuple[list[GpuPeer], dict[str, str], dict[str, str]]:
    """Those that are there, their versions, and why others are not."""
    there, versions, absent = [], {}, {}
    for peer in peers:
        reason = missing(peer)
        if not reason:
            try:
                versions[peer.name] = peer.connect()
            except Exception as error:     # a library that is broken is told, and left out
                reason = str(error) or type(error).__name__
            else:
                there.append(peer)
        if reason:
            absent[peer.name] = reason
    return there, versions, absent


def measure(plan: Plan, peers: Sequence[GpuPeer] = PEERS) -> Iterator[dict[str, Any]]:
    """The copy bandwidth and the peers, then case by case."""
    device, sizes = find_device(0), SIZES[plan.sizes]
    there, versions, absent = connected(peers)
    nbytes = min(sizes["copy"], device.total_memory // 8)
    yield {"copy_gb_s": copy_bandwidth(device, nbytes, plan.rounds) / 1e9, "copy_bytes": nbytes,
           "peers": versions, "absent": absent}
    cases = [case for case in CASES if case.name in plan.cases]
    for number, case in enumerate(cases):
        contest = Contest(case, sizes, device)
        contest.admit(OURS, lambda inputs, state, case=case: prepare(     # type: ignore[misc]
            case, sizes, device, inputs, state))
        for peer in there:
            left = plan.deadline - time.time() - SECONDS_KEPT * (len(cases) - number)
            if left < SECONDS_OF_A_PEER:
                contest.absent[peer.name] = "no time was left"
            else:
                contest.admit(peer.name, lambda inputs, state, case=case, peer=peer: peer.prepare(     # type: ignore[misc]
                    case, inputs, state))
        yield contest.record(plan)
        del contest
        gc.collect()
        for peer in there:
            peer.tidy()
        with device:
            pool_of(device).trim()


def main(argv: Sequence[str]) -> int:
    """The measuring process; see the module docstring."""
    warnings.filterwarnings("ignore")     # peers' deprecations are not ours to show
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")     # jax would take most of the memory
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    told = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    plan = Plan(**{**told, "cases": tuple(told["cases"])})
    with Path(argv[1]).open("a", encoding="utf-8") as file:
        for found in measure(plan):
            file.write(json.dumps(found) + "\n")
            file.flush()
            print(found.get("case", "copy"), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
