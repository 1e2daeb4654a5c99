"""The machine of a benchmark: what it is, the most it can do, and processes with other settings."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
SIDE = 2048  # of the square matrices whose product is the peak
MAPS = (64, 64, 28, 28)  # batch, channels, height, width of the convolution, 3 x 3, to as many
REPEATS = 7
INSTRUCTIONS = ("avx2", "avx512_f", "avx512_bf16", "amx_tile", "amx_bf16")


def facts() -> dict[str, object]:
    """Processor, cores, instructions for matrices, versions, and how busy it is just now."""
    able = torch.cpu.get_capabilities()
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "instructions": [name for name in INSTRUCTIONS if able.get(name)],
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def peaks() -> dict[str, float]:
    """GFLOP/s of this process, the best of 7: matrix product, convolution, and the quicker one."""
    found: dict[str, float] = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        matrix = torch.randn(SIDE, SIDE).to(kind)
        maps = torch.randn(MAPS).to(kind, memory_format=torch.channels_last)
        layer = nn.Conv2d(MAPS[1], MAPS[1], 3, padding=1, bias=False)
        layer.to(kind).to(memory_format=torch.channels_last)
        work = 2 * maps.numel() * 9 * MAPS[1]
        with torch.inference_mode():
            found[f"matmul_{name}"] = _rate(lambda m=matrix: m @ m, 2 * SIDE**3)
            found[f"convolution_{name}"] = _rate(lambda c=layer, m=maps: c(m), work)
        found[name] = max(found[f"matmul_{name}"], found[f"convolution_{name}"])
    return found


def seconds_of(action: Callable[[], object]) -> tuple[float, float]:
    """Processor and wall seconds of one call."""
    used, began = time.process_time(), time.perf_counter()
    action()
    return time.process_time() - used, time.perf_counter() - began


def spread(values: Iterable[float], digits: int = 3) -> dict[str, object]:
    """Median and range, rounded."""
    found = sorted(values)
    ends = [round(found[0], digits), round(found[-1], digits)]
    return {"median": round(statistics.median(found), digits), "range": ends}


@contextmanager
def process_with(environment: Mapping[str, str]) -> Iterator[ProcessPoolExecutor]:
    """A new process of one thread that starts with these variables, as malloc and OpenMP need."""
    pool = ProcessPoolExecutor(
        1, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    )
    before = dict(os.environ)
    os.environ.update({**ONE_THREAD, **environment})
    with pool:
        try:
            pool.submit(os.getpid).result()  # starts the process
        finally:
            os.environ.clear()
            os.environ.update(before)
        yield pool


def _rate(action: Callable[[], object], operations: float) -> float:
    action()  # the first call prepares kernels
    return round(operations / min(seconds_of(action)[0] for _ in range(REPEATS)) / 1e9, 1)


def _processor() -> str:
    """The processor's name; Linux has it in a file, others in `platform`."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
