"""Tests that a program keeps the memory that it frees, and that the environment decides first."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource
from vil_dense.heap import keep_freed_memory, mapped_from

keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
for size in (64, 600):  # MiB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        block = libc.malloc(size * 2**20)
        ctypes.memset(block, 1, size * 2**20)
        libc.free(block)
    pages = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize()
    print(round(pages / (size * 2**20)))
print(mapped_from() // 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc, which this sets")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        # how often the system gave a block of 64 MiB and one of 600 MiB, of four times; the size that is mapped
        ({}, ["1", "4", "512"]),
        (dict(MALLOC_ARENA_MAX="1"), ["4", "4", "32"]),
    ],
    ids=["kept", "set by the user"],
)
def test_a_block_comes_from_the_system_once(environment: dict[str, str], expected: list[str]) -> None:
    clean = {name: value for name, value in os.environ.items() if "MALLOC" not in name and name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", PROGRAM]
    printed = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True).stdout
    assert printed.split() == expected
