"""Keep freed memory instead of handing it back to the kernel after each training step."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc reuse large blocks; return whether this platform's allocator understood.

    Training on a CPU frees and takes the same activations of tens of megabytes in each step. By default each is mapped
    anew and every page of it faults again, which costs more than the arithmetic of a small convolution.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library, such as musl
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_ARENA_MAX, 1))
    understood = [mallopt(name, value) == 1 for name, value in settings]  # each is set, whatever the others say
    return all(understood)
