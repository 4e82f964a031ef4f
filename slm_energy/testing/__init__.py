"""Fakes for our tests and those of users: they need no hardware, and the true energy is known.

    waveform        power whose energy is known exactly; drives all sensors below
    powercap, perf  RAPL as files in a folder; perf events on the kernel's own clock
    nvml, amd       the vendors' libraries, built from C, below the vendors' own Python packages
    wall            an HTTP wall meter
    faults, scenes  faults of readings, and modelled sensors to apply them to
    trace           recorded readings in a small file, for replay
    completions     a server for OpenAI's completions protocol, with optional faults
    engine          a scripted engine: real processes and time stamps, no weights

`CONF` is the folder with the configuration groups of the fakes, for `--config-dir`.
"""

from pathlib import Path

CONF = Path(__file__).parent / "conf"
