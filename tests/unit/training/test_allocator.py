import platform
import resource
import subprocess
import sys

import pytest

SCRIPT = """
import resource
from panoptic_deeplab.training.allocator import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        b"x" * 40_000_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
as_usual = faults()
keep_freed_memory()
faults()
print(as_usual, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the C library glibc")
def test_freed_memory_is_used_again() -> None:
    """Counted in pages that the kernel had to provide."""
    finished = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    as_usual, kept = map(int, finished.stdout.split())
    pages = 5 * 40_000_000 // resource.getpagesize()
    assert as_usual > pages / 2  # what there is to gain
    assert kept < pages / 20
