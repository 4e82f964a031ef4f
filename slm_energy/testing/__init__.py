"""Shipped fakes, for our tests and those of users: no hardware is needed, and the truth is known.

    waveform        power whose energy is known exactly; it drives all sensors below
    powercap, perf  RAPL as files in a folder; perf events on the kernel's own clock
    nvml, amd       the vendors' libraries, built from C, under the vendors' own Python packages
    wall            a meter that answers over HTTP
    faults, scenes  what goes wrong with readings, and modelled sensors to try it on
    trace           recorded readings in a small file, to replay
    completions     a server that speaks OpenAI's protocol, and breaks it where it is asked to
    engine          a scripted engine: real processes and time stamps, no weights

`CONF` is a folder for `--config-dir`: the conf groups of the fakes.
"""

from pathlib import Path

CONF = Path(__file__).parent / "conf"
