"""Python imports this first in every process that a test starts: its locks are below TMPDIR.

What measures on this machine does not wait for tests, nor they for it or for each other.
"""

import contextlib
import tempfile
from pathlib import Path

with contextlib.suppress(ImportError):  # an interpreter without this package
    from slm_energy import machine

    machine.LOCK_FOLDERS = (Path(tempfile.gettempdir()),)
