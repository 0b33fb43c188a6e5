"""Freed memory goes back to the system."""

import subprocess
import sys

PROGRAM = """
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


def test_what_was_freed_is_given_back() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    before, kept, after = map(int, found.split())
    assert kept > before - 20 and after < before - 150  # of 190 MiB
