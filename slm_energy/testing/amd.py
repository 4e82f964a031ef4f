"""AMD GPUs for AMD's own `amdsmi` package: a `libamd_smi.so` compiled from a small C file.

The package binds 184 functions when it is imported. Those that we use follow a waveform, so that a
GPU's power and its energy counter agree; the others return "not supported". A C compiler (`cc`) and
the package are needed; a GPU and ROCm are not.

    library = FakeAmdSmi(tmp_path)
    library.show(FakeAmdGpu(bdf="0000:c1:00.0", uuid="GPU-1", waveform=constant(90)))
    with library.loaded():
        ...
    child = subprocess.run(..., env={"ROCM_PATH": str(tmp_path)})

`show` may be called at any time, also while a child reads; it takes effect immediately.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from slm_energy.testing.waveform import Waveform

STATUS = {
    "NOT_SUPPORTED": 2,
    "NO_PERM": 10,
    "IO": 12,
    "BUSY": 30,
    "NOT_FOUND": 31,
    "DRIVER_NOT_LOADED": 34,
    "UNEXPECTED_DATA": 43,
}
"""AMDSMI_STATUS_... codes that the functions may return."""

NO_HIP_ID = 2**32 - 1

_MEMORY_BYTES = 10**9
"""What each process that computes holds."""

_KEYS = (
    *("name", "uuid", "hip_id", "power_field"),
    *("resolution", "update_ns", "frozen_ns", "first_ticks"),
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FakeAmdGpu:
    """One GPU, or one part of a partitioned GPU.

    Attributes:
        bdf: its PCI address, such as `0000:c1:00.0`; parts of one GPU differ in the last digit.
        uuid: as in ROCR_VISIBLE_DEVICES; begins with `GPU-`, or is empty if unknown.
        waveform: its power.
        hip_id: its index among all GPUs in HIP's order; `NO_HIP_ID` if unknown.
        name: product name.
        power_field: `current` (Instinct MI300 and later) or `average` (all others).
        resolution: the counter's unit as reported by the library, in uJ; the true unit is 2^-16 J.
        update_ns: update period of the counter.
        frozen_ns: monotonic time from which the counter is frozen; 0 for never.
        first_ticks: value of the counter at the start of the waveform.
        processes: ids of the processes that compute on it.
        bystanders: ids of processes that are listed on it, but hold none of its memory.
        errors: function name to the status it returns, a key of `STATUS`.
    """

    bdf: str
    uuid: str
    waveform: Waveform
    hip_id: int = 0
    name: str = "AMD Instinct Fake 300"
    power_field: Literal["current", "average"] = "current"
    resolution: float = 15.3
    update_ns: int = 1_000_000
    frozen_ns: int = 0
    first_ticks: int = 0
    processes: tuple[int, ...] = ()
    bystanders: tuple[int, ...] = ()
    errors: dict[str, str] = dataclasses.field(default_factory=dict)


class FakeAmdSmi:
    """The compiled library.

    Args:
        root: an existing folder, for ROCM_PATH; the library is written to its `lib`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._state = root / "state"
        self.show()
        _compile(root / "lib" / "libamd_smi.so", self._state)

    def show(self, *gpus: FakeAmdGpu, init_error: str | None = None) -> None:
        """Set the machine's GPUs from now on; `init_error` makes amdsmi_init fail."""
        lines = [f"init {STATUS[init_error] if init_error else 0}"]
        for gpu in gpus:
            lines += [f"gpu {gpu.bdf}", f"start_ns {gpu.waveform.start_ns}"]
            lines += [f"{key} {getattr(gpu, key)}" for key in _KEYS]
            lines += [f"step {length} {power}" for length, power in gpu.waveform.steps]
            lines += [f"process {pid} {_MEMORY_BYTES}" for pid in gpu.processes]
            lines += [f"process {pid} 0" for pid in gpu.bystanders]
            lines += [f"error {name} {STATUS[status]}" for name, status in gpu.errors.items()]
        partial = self._state.with_suffix(".partial")
        partial.write_text("\n".join(lines) + "\n", encoding="ascii")
        partial.replace(self._state)

    @contextmanager
    def loaded(self) -> Iterator[None]:
        """Make `import amdsmi` find this library in this process."""
        before = os.environ.get("ROCM_PATH")
        _unload()
        os.environ["ROCM_PATH"] = str(self.root)
        try:
            yield
        finally:
            _unload()
            if before is None:
                del os.environ["ROCM_PATH"]
            else:
                os.environ["ROCM_PATH"] = before


def _unload() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "amdsmi"]:
        del sys.modules[name]


def _compile(library: Path, state: Path) -> None:
    source = Path(__file__).with_name("libamd_smi.c")
    defined = set(re.findall(r"^int (\w+)\(", source.read_text(encoding="ascii"), re.MULTILINE))
    stubs = "".join(
        f"int {name}(void) {{ return 2; }}\n" for name in sorted(_bound_functions() - defined)
    )
    library.parent.mkdir()
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-x", "c", f'-DSTATE="{state}"', "-o", library, source, "-"],
        input=stubs,
        text=True,
        check=True,
    )


def _bound_functions() -> set[str]:
    """Functions that the package looks up when it is imported."""
    spec = importlib.util.find_spec("amdsmi")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("amdsmi is not installed: pip install slm-energy[amd]")
    wrapper = Path(spec.origin).with_name("amdsmi_wrapper.py").read_text(encoding="utf-8")
    return set(re.findall(r"_libraries\['libamd_smi\.so'\]\.(\w+)", wrapper))
