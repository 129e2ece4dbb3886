"""The processor's own counts of instructions and cycles, by perf_event_open(2), where this machine offers them: virtual
machines often do not.

Python 3.9's standard library only, on Linux.
"""

import contextlib
import ctypes
import os
import platform
import struct
from pathlib import Path

import harness

CALL = {"x86_64": 298, "aarch64": 241}
TYPE_HARDWARE = 0
CYCLES, INSTRUCTIONS = 0, 1
# struct perf_event_attr in its first version: type, size, config, period, what a sample has, what a read gives, flags, and
# 16 bytes more.
ATTRIBUTES = "IIQQQQQ16x"
# A read gives the time that the event was enabled, and the time that it was counted, since counters are shared.
TIMES = 1 | 2
# Threads that are started later count too; the kernel's part is left out where it is not allowed.
INHERIT, EXCLUDE_KERNEL = 1 << 1, 1 << 5
CLOSE_ON_EXEC = 1 << 3


def opened(task, event, kind=TYPE_HARDWARE, kernel=True):
    """A descriptor that counts an event of one thread, or an OSError."""
    number = CALL.get(platform.machine())
    if number is None:
        raise OSError(f"not known how on {platform.machine()}")
    size = struct.calcsize(ATTRIBUTES)
    flags = INHERIT | (0 if kernel else EXCLUDE_KERNEL)
    attributes = ctypes.create_string_buffer(struct.pack(ATTRIBUTES, kind, size, event, 0, 0, TIMES, flags), size)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    words = [ctypes.c_long(word) for word in (task, -1, -1, CLOSE_ON_EXEC)]
    descriptor = libc.syscall(ctypes.c_long(number), attributes, *words)
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return descriptor


def probed():
    """Whether the kernel's part can be counted too, or None and why nothing can be counted."""
    for kernel in (True, False):
        try:
            for event in (INSTRUCTIONS, CYCLES):
                os.close(opened(0, event, kernel=kernel))
            return kernel, None
        except OSError as error:
            reason = error
    return None, f"perf_event_open: {reason.strerror or reason}"


class Counted:
    """Instructions and cycles of a process, all its threads and descendants, from now on."""

    def __init__(self, pid, kernel, events=(INSTRUCTIONS, CYCLES), kind=TYPE_HARDWARE):
        self.open = {event: [] for event in events}
        for member in harness.family(pid):
            for task in Path(f"/proc/{member}/task").iterdir():
                for event, descriptors in self.open.items():
                    # A thread may have ended since.
                    with contextlib.suppress(ProcessLookupError):
                        descriptors.append(opened(int(task.name), event, kind, kernel))

    def read(self):
        """The counts so far, by event; of an event that shared its counter, what it would have been with one of its own."""
        counts = {}
        for event, descriptors in self.open.items():
            counts[event] = 0
            for descriptor in descriptors:
                value, enabled, running = struct.unpack("QQQ", os.read(descriptor, 24))
                counts[event] += value * enabled / running if running else 0
        return counts

    def close(self):
        for descriptors in self.open.values():
            for descriptor in descriptors:
                os.close(descriptor)
