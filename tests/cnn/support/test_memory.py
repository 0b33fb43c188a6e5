"""Freed memory goes back to the system, and threads do not each keep their own."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

GIVE_BACK = """
import re
from pathlib import Path
from cnn.support.memory import give_back
def resident():
    return int(re.findall(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[0]) >> 10
blocks = [b"1" * 50_000 for _ in range(4_000)]
last = blocks[-1]  # what lies before it cannot be given back by making the heap shorter
before = resident()
del blocks
kept = resident()
give_back()
print(before, kept, resident())
"""
#: Threads that allocate at once have glibc make an arena for each.
ALLOCATE = """
import ctypes, threading
wait = threading.Barrier(16)
def allocate():
    kept = bytes(50_000)
    wait.wait()
threads = [threading.Thread(target=allocate) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ctypes.CDLL(None).malloc_stats()
"""


def run(program: str, **variables: str) -> tuple[str, str]:
    command, environment = [sys.executable, "-c", program], os.environ | variables
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    return done.stdout, done.stderr


def test_what_was_freed_is_given_back() -> None:
    before, kept, after = map(int, run(GIVE_BACK)[0].split())
    assert kept > before - 20 and after < before - 150  # of 190 MiB


@pytest.mark.parametrize("variables", [{"OMP_NUM_THREADS": "3"}, {"OMP_NUM_THREADS": "9", "MALLOC_ARENA_MAX": "3"}])
def test_tasks_have_an_arena_for_each_thread_that_computes(variables: dict[str, str]) -> None:
    assert run(ALLOCATE)[1].count("Arena ") > 3
    assert run(f"import tasks\n{ALLOCATE}", **variables)[1].count("Arena ") == 3
