"""NVIDIA GPUs for the real nvidia-ml-py: a `libnvidia-ml.so.1` compiled from a small C file.

`write_cuda_library` gives the same GPUs a `libcuda.so.1`, which numbers them as CUDA does.

One waveform per GPU determines its instant power, averaged power and energy counter, so that an
integrator can be checked. Use it in this process, or let child processes find it:

    machine = FakeNvml(gpus=(FakeGpu(uuid="GPU-1", waveform=constant(70)),))
    with installed(machine):
        ...
    environment = {"LD_LIBRARY_PATH": str(write_library(machine, tmp_path))}

Calling `write_library` for the same folder again, or `change` on the result of `installed`, takes
effect immediately, also in processes that are reading. It needs a C compiler (`cc`), no GPU.
"""

from __future__ import annotations

import _ctypes
import ctypes
import dataclasses
import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pynvml

from slm_energy.errors import MeterError, one_line
from slm_energy.testing.waveform import Waveform

COUNTER = "nvmlDeviceGetTotalEnergyConsumption"
POWER = "nvmlDeviceGetPowerUsage"
POWER_INSTANT = "NVML_FI_DEV_POWER_INSTANT"
"""The functions and the field that faults usually concern."""

EVERYTHING = "*"
"""Every function of a GPU: the error `GpuIsLost` for `EVERYTHING` is a lost GPU."""

_LIBRARY = "libnvidia-ml.so.1"
_CUDA_LIBRARY = "libcuda.so.1"
_SOURCES = {_LIBRARY: "libnvidia_ml.c", _CUDA_LIBRARY: "libcuda.c"}
_MOST = {"step": 1024, "fault": 64, "process": 64, "mig": 8}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FakeGpu:
    """One GPU.

    Keys of faults are nvidia-ml-py's names of functions, fields, or `EVERYTHING`; all faults begin
    at `faults_from_ns`.

    Attributes:
        uuid: begins with `GPU-`.
        waveform: its power.
        name: product name.
        capability: CUDA compute capability. `nvmlDeviceGetPowerUsage` is an average over 1 s on
            Ampere and later except GA100, which is (8, 0); before, it is instant power.
        counter_period_ns: update period of the energy counter.
        power_period_ns: update period of power.
        power_window_ns: instant power is the mean over this time before its update; 0: no mean.
            25 ms of a period of 100 ms is a sensor that samples part of the time.
        power_type: type of the values of power fields, a pynvml.NVML_VALUE_TYPE_...
        power_limit_mw: the enforced limit; None is twice the largest power of the waveform.
        speed: CUDA numbers the fastest GPU first unless CUDA_DEVICE_ORDER=PCI_BUS_ID; equal ones
            stay in NVML's order.
        processes: ids of the processes that compute on it; each holds `memory_bytes`. With MIG they
            are on its first MIG device.
        mig_devices: UUIDs of its MIG devices, beginning with `MIG-`; if any, MIG mode is on.
        utilization_pct: share of time in which it computes.
        memory_bytes: used memory.
        temperature_c: of the GPU.
        sm_clock_mhz: of its processors.
        event_reasons: reasons for reduced clocks, as NVML's bit mask.
        errors: returned error by function: the end of the name of one of pynvml's classes, such as
            `GpuIsLost`, `NotSupported`, `NoPermission`, `Timeout` or `Unknown`.
        delays_ms: duration by function.
        values: returned value by function, instead of the true one; for a field, the 64 bits of its
            value.
        counter_fault: the counter is frozen, counts backward, or restarted at 0.
        faults_from_ns: monotonic time at which the faults begin.
    """

    uuid: str
    waveform: Waveform
    name: str = "NVIDIA Fake 100"
    capability: tuple[int, int] = (9, 0)
    counter_period_ns: int = 20_000_000
    power_period_ns: int = 20_000_000
    power_window_ns: int = 0
    power_type: int = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
    power_limit_mw: int | None = None
    speed: int = 0
    processes: tuple[int, ...] = ()
    mig_devices: tuple[str, ...] = ()
    utilization_pct: int = 40
    memory_bytes: int = 2_000_000_000
    temperature_c: int = 45
    sm_clock_mhz: int = 1500
    event_reasons: int = 0
    errors: dict[str, str] = dataclasses.field(default_factory=dict)
    delays_ms: dict[str, int] = dataclasses.field(default_factory=dict)
    values: dict[str, int] = dataclasses.field(default_factory=dict)
    counter_fault: Literal["frozen", "backward", "reset"] | None = None
    faults_from_ns: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FakeNvml:
    """A machine with NVIDIA GPUs.

    Attributes:
        gpus: in the order of their index.
        init_error: error of nvmlInit, such as `DriverNotLoaded`.
        count_error: error of nvmlDeviceGetCount.
        driver: driver version.
    """

    gpus: tuple[FakeGpu, ...]
    init_error: str | None = None
    count_error: str | None = None
    driver: str = "580.65.06"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """Result of `installed`: `change` replaces the machine from now on."""

    folder: Path

    def change(self, machine: FakeNvml) -> None:
        """Replace the machine. Handles stay valid; that of a removed GPU gives `GpuIsLost`."""
        _describe(machine, self.folder)


@contextmanager
def installed(machine: FakeNvml) -> Iterator[Installed]:
    """Make `pynvml` use the fake in this process, and restore it afterwards.

    pynvml keeps the loaded library, and pointers to its functions, in module variables: these are
    set and restored.
    """
    names = ("nvmlLib", "_nvmlGetFunctionPointer_cache", "_nvmlLib_refcount")
    before = {name: getattr(pynvml, name) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        library = ctypes.CDLL(str(write_library(machine, Path(folder)) / _LIBRARY))
        fake: dict[str, Any] = dict(zip(names, (library, {}, 0), strict=True))
        vars(pynvml).update(fake)
        try:
            yield Installed(folder=Path(folder))
        finally:
            vars(pynvml).update(before)
            # The loader would mistake a library left open for the next one with the same inode.
            _ctypes.dlclose(library._handle)


def write_library(machine: FakeNvml, folder: Path) -> Path:
    """Write the library, simulating `machine`, to a folder; or change the machine there.

    Returns:
        The folder's absolute path, for LD_LIBRARY_PATH of child processes.

    Raises:
        MeterError: there is no C compiler, or it fails.
    """
    return _write(_LIBRARY, machine, folder).parent


def write_cuda_library(machine: FakeNvml, folder: Path) -> Path:
    """Write a `libcuda.so.1` that numbers the GPUs of `machine`, and computes nothing.

    In LD_LIBRARY_PATH it would break programs that do compute: load it by its path.

    Returns:
        Its absolute path.

    Raises:
        MeterError: there is no C compiler, or it fails.
    """
    return _write(_CUDA_LIBRARY, machine, folder)


def _write(name: str, machine: FakeNvml, folder: Path) -> Path:
    _describe(machine, folder, name)
    library = folder.absolute() / name
    if not library.exists():
        library.write_bytes(_compiled(name))
    return library


@functools.cache
def _compiled(name: str) -> bytes:
    compiler = shutil.which("cc")
    if compiler is None:
        raise MeterError("the fake NVML library needs a C compiler: apt install gcc libc6-dev")
    source = Path(__file__).with_name(_SOURCES[name])
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / name
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise MeterError(f"the fake {name} does not compile: {one_line(done.stderr)}")
        return library.read_bytes()


def _describe(machine: FakeNvml, folder: Path, name: str = _LIBRARY) -> None:
    """Write the file that the library reads; atomically, since it may be reading it."""
    lines = [f"driver {machine.driver}"]
    if machine.init_error:
        lines += [f"init {_code(machine.init_error)}"]
    if machine.count_error:
        lines += [f"count {_code(machine.count_error)}"]
    for gpu in machine.gpus:
        lines += _gpu_lines(gpu)
    partial = folder / f"{name}.partial"
    partial.write_text("\n".join(lines) + "\n", encoding="ascii")
    partial.replace(folder / f"{name}.conf")


def _gpu_lines(gpu: FakeGpu) -> list[str]:
    attributes = {field.name: getattr(gpu, field.name) for field in dataclasses.fields(gpu)}
    if gpu.power_limit_mw is None:
        attributes["power_limit_mw"] = 2 * max(power_mw for _, power_mw in gpu.waveform.steps)
    lines = [
        f"gpu {gpu.uuid}",
        f"name {gpu.name}",
        *(f"{key} {number}" for key, number in attributes.items() if isinstance(number, int)),
        f"start_ns {gpu.waveform.start_ns}",
        f"major {gpu.capability[0]}",
        f"minor {gpu.capability[1]}",
        f"architecture {_architecture(gpu.capability)}",
        *(f"step {length_ns} {power_mw}" for length_ns, power_mw in gpu.waveform.steps),
        *(f"process {pid}" for pid in gpu.processes),
        *(f"mig {uuid}" for uuid in gpu.mig_devices),
        *(f"fault e {function} {_code(error)}" for function, error in gpu.errors.items()),
        *(f"fault d {function} {delay_ms}" for function, delay_ms in gpu.delays_ms.items()),
        *(f"fault v {function} {value}" for function, value in gpu.values.items()),
        *([f"fault {gpu.counter_fault[0]} {COUNTER} 0"] if gpu.counter_fault else []),
    ]
    for key, most in _MOST.items():
        if sum(line.startswith(f"{key} ") for line in lines) > most:
            raise ValueError(f"{gpu.uuid}: the fake library has room for {most} lines of {key}")
    return lines


def _code(error: str) -> int:
    """Error code of a name: `GpuIsLost` is pynvml.NVML_ERROR_GPU_IS_LOST."""
    constant = "NVML_ERROR_" + re.sub(r"(?<!^)(?=[A-Z])", "_", error).upper()
    return int(getattr(pynvml, constant))


def _architecture(capability: tuple[int, int]) -> int:
    """Result of nvmlDeviceGetArchitecture for a compute capability."""
    lowest_capability = {
        (7, 0): pynvml.NVML_DEVICE_ARCH_VOLTA,
        (7, 5): pynvml.NVML_DEVICE_ARCH_TURING,
        (8, 0): pynvml.NVML_DEVICE_ARCH_AMPERE,
        (8, 9): pynvml.NVML_DEVICE_ARCH_ADA,
        (9, 0): pynvml.NVML_DEVICE_ARCH_HOPPER,
        (10, 0): pynvml.NVML_DEVICE_ARCH_BLACKWELL,
    }
    reached = [arch for lowest, arch in lowest_capability.items() if lowest <= capability]
    return int(max(reached, default=pynvml.NVML_DEVICE_ARCH_PASCAL))
