"""Python code in an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys


def run_python(code, **environment):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()
