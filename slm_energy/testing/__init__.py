"""Shipped fakes, for our tests and those of users: no hardware is needed, and the truth is known.

`CONF` is a folder for `--config-dir`: the conf groups of the fakes.
"""

from pathlib import Path

CONF = Path(__file__).parent / "conf"
