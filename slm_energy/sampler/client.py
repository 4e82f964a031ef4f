"""The parent's handle on the sampling process, and the reader of its file.

A separate process keeps sampling while the worker holds Python's lock, and its cost can be
measured. The process (`service.py`) lives as long as the sweep, and is idle outside trials. What it
reads goes to a file, line by line, so that a crash loses no more than the last line:

    {"period_s": ..., "sources": ..., "notes": ..., "clock": ..., "cpus": ...}  as a trial begins
    [[source, before_ns, raw, after_ns], ...]                                   at each reading
    {"cpu_s": ..., "wall_s": ..., "largest_pause_s": ...}                       when asked to stop

A reading that failed is [source, before_ns, null, after_ns, error].
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path
from typing import Any

from slm_energy import redaction, shared, sigint, source_code
from slm_energy.config.groups import MeasurementConfig
from slm_energy.derive.energy.accounting import shortest_window_s
from slm_energy.derive.energy.coarse import next_step_s
from slm_energy.derive.energy.latency import longest_latency_ns
from slm_energy.errors import MeterError
from slm_energy.record import SamplerReport, Series, Source
from slm_energy.scratch import scratch
from slm_energy.serialization import Json, from_plain, to_plain

_START_S = 60.0
_EXIT_S = 1.0
_LONGEST_SOCKET_PATH = 100
"""The system takes 104 or 108 bytes, with a zero at the end."""


class Sampler:
    """The parent's handle: one child process for a whole sweep.

    Args:
        measurement: what to meter, and how often.
        folder: where the child's error output goes, `sampler.log`.
        patience_s: a child that takes longer to respond hangs, and is killed.

    Attributes:
        sources: what a started child reads.
        notes: what it could not open, measure or sum; one line each.
        marks: the socket on which it takes marks, the same for a child that replaces it.
    """

    def __init__(
        self, measurement: MeasurementConfig, folder: Path, *, patience_s: float = 10.0
    ) -> None:
        self.measurement = measurement
        self.sources: tuple[Source, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.marks = ""
        self._log = folder / "sampler.log"
        self._patience_s = patience_s
        self._process: subprocess.Popen[bytes] | None = None
        self._received = b""
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """The child has not ended; it may be stopped."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The child's process id; None when there is no child."""
        return self._process.pid if self._process else None

    def shortest_s(self, target_error: float) -> float:
        """Length of a window whose energy has a relative error of at most `target_error`.

        Returns:
            The length that suffices for all sources of the sum; 0.0 where nothing is summed.
        """
        lengths_s = (
            shortest_window_s(source, target_error) or 0.0
            for source in self.sources
            if source.summed
        )
        return max(lengths_s, default=0.0)

    def start(self) -> None:
        """Start the child and wait until its meters are open and calibrated: up to 4 s or so.

        Raises:
            MeterError: `measurement.mode=strict` and nothing can be measured; or the child failed.
        """
        if self.alive:
            self.close()
        self._kill()
        if not self.marks:
            self.marks = str(self._stack.enter_context(scratch()) / "marks")
        if len(os.fsencode(self.marks)) > _LONGEST_SOCKET_PATH:
            self.close()
            raise MeterError(
                f"TMPDIR={tempfile.gettempdir()} is too long for a socket's path: set a shorter one"
            )
        reply = self._spawn()
        if reply is None and self._was_killed():  # that costs no more than one start
            self._kill()
            reply = self._spawn()
        if reply is None or "error" in reply:
            self.close()
            raise MeterError(
                reply["error"] if reply else f"the sampler did not start: see {self._log}"
            )
        if differs := source_code.difference(reply.get("code"), reply.get("package")):
            self.close()
            raise MeterError(f"the sampler was ended: {differs}")
        self.sources = tuple(from_plain(Source, item) for item in reply["sources"])
        self.notes = tuple(reply["notes"])

    def _spawn(self) -> dict[str, Any] | None:
        """Start a child; return its first reply, None if it gives none."""
        self._received = b""
        variables = redaction.without_store()
        variables |= source_code.on_path(Path(self.marks).parent, variables.get("PYTHONPATH"))
        config = json.dumps(to_plain(self.measurement))
        with self._log.open("ab") as log, sigint.withheld():
            shared.share(self._log)
            # -P: a file named json.py in the working folder must not replace the library.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "slm_energy.sampler.service", config, self.marks],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=variables,
                bufsize=0,
            )
        return self._reply(_START_S)

    def begin(self, pid: int, file: Path, *, slow: bool = True) -> None:
        """Sample into `file` from now on; the first reading is done when this returns.

        Args:
            pid: the trial's worker.
            file: is created; see the module's docstring for its format.
            slow: read slow meters too, which costs seconds of its own; without, they have no rows.

        Raises:
            MeterError: no child could be started that samples.
        """
        request: dict[str, Json] = {"begin": pid, "file": str(file), "slow": slow}
        if self.alive and self._send(request):
            return
        self._kill()
        self.start()
        if not self._send(request):
            self._kill()
            raise MeterError(f"the sampler does not sample: see {self._log}")

    def end(self) -> None:
        """Take a last reading and stop sampling.

        A child that died or hangs is killed; then the file has no last line, which `read_samples`
        reports as not finished.
        """
        late_s = max(
            (next_step_s(source) + longest_latency_ns(source) / 1e9 for source in self.sources),
            default=0.0,
        )
        if not self.alive or not self._send({"end": True}, late_s=late_s):
            self._kill()

    def close(self) -> None:
        """End the child, if there is one."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=self._patience_s)
            self._kill()
        self._stack.close()
        self.marks = ""

    def _was_killed(self) -> bool:
        """Whether a signal has ended the child, or does so now."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_EXIT_S)
        return (self._process.returncode or 0) < 0

    def _kill(self) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._process = None

    def _send(self, request: dict[str, Json], *, late_s: float = 0.0) -> bool:
        """Send a request; return whether the child confirmed it, `late_s` later than usual."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            return False
        return self._reply(self._patience_s + late_s) is not None

    def _reply(self, timeout_s: float) -> dict[str, Any] | None:
        """The child's next line; None when it ended or took too long."""
        assert self._process is not None
        assert self._process.stdout is not None
        until = time.monotonic() + timeout_s
        while b"\n" not in self._received:
            left_s = max(0.0, until - time.monotonic())
            ready, _, _ = select.select([self._process.stdout], [], [], left_s)
            chunk = self._process.stdout.read(65536) if ready else b""
            if not chunk:
                return None
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply


def read_samples(file: Path) -> tuple[tuple[Series, ...], SamplerReport]:
    """Read what the sampling process wrote for one trial.

    An incomplete last line is dropped: the process died while writing it.

    Returns:
        One series per source, and the process's report: `finished` is False, and its cost unknown,
        when the file has no last line of its own.

    Raises:
        MeterError: there is no such file, no head, or a line in the middle is damaged.
    """
    try:
        with file.open("rb") as lines:
            head = json.loads(lines.readline())
            sources = [from_plain(Source, item) for item in head["sources"]]
            columns = [_Columns() for _ in sources]
            footer: dict[str, Any] = {}
            for line in lines:
                if line[-1:] != b"\n":
                    break  # torn
                if footer:
                    raise ValueError("there is more after its last line")
                row = json.loads(line)
                if isinstance(row, dict):
                    footer = row
                    continue
                for number, *reading in row:
                    columns[number].add(*reading)
    except OSError as error:
        raise MeterError(f"the sampler's file cannot be read: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise MeterError(f"{file} is damaged, run the trial again: {error}") from error
    series = (
        Series(source=source, **vars(own)) for source, own in zip(sources, columns, strict=True)
    )
    return tuple(series), SamplerReport(
        period_s=head["period_s"],
        cpu_s=footer.get("cpu_s"),
        wall_s=footer.get("wall_s"),
        largest_pause_s=footer.get("largest_pause_s"),
        cpus=tuple(head["cpus"]),
        finished=bool(footer),
        notes=tuple(head["notes"]),
    )


class _Columns:
    """The readings of one source while they are read: 24 bytes each, as long as none fails."""

    def __init__(self) -> None:
        self.before_ns, self.after_ns = array("q"), array("q")
        self.raw: Any = array("q")  # of "d" for floats; a list where values differ in type
        self.errors: dict[str, str] = {}

    def add(
        self, before_ns: int, raw: int | float | None, after_ns: int, error: str | None = None
    ) -> None:
        if raw is None:
            if error is None:
                raise ValueError("a failed reading without its error")
            self.errors[str(len(self.raw))] = error
        self.before_ns.append(before_ns)
        self.after_ns.append(after_ns)
        kind = {int: "q", float: "d"}.get(type(raw))
        if isinstance(self.raw, array) and self.raw.typecode != kind:
            self.raw = self.raw.tolist() if self.raw or kind is None else array(kind)
        self.raw.append(raw)
