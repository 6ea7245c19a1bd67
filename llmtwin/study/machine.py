"""Names the machine that figures are measured on. It measures nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path

INFO = Path("/proc/cpuinfo")


def machine() -> dict[str, str | int]:
    """The name of its CPU, as far as it has one, the count of its cores, and the version of Python."""
    lines = INFO.read_text().splitlines() if INFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor() or platform.machine()
    return {"cpu": cpu, "cores": os.cpu_count() or 1, "python": platform.python_version()}
