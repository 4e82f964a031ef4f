"""A double of NVIDIA's `pynvml` module, with GPUs whose power and energy counter agree.

One waveform per GPU gives its power and its counter, so that an integrator can be checked. Use it
in this process, or let child processes import it:

    machine = FakeNvml(gpus=(FakeGpu(uuid="GPU-1", waveform=constant(70)),))
    with installed(machine):
        ...
    environment = {"PYTHONPATH": str(write_module(machine, tmp_path))}

It has the functions, constants and exceptions that this package uses, not all of NVML.
"""

from __future__ import annotations

import dataclasses
import sys
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slm_energy.testing.waveform import Waveform

Errors = dict[str, str]

_CODES = {
    "Uninitialized": 1,
    "NotSupported": 3,
    "NoPermission": 4,
    "DriverNotLoaded": 9,
    "LibraryNotFound": 12,
    "FunctionNotFound": 13,
    "GpuIsLost": 15,
    "Unknown": 999,
}


class NVMLError(Exception):
    """As in pynvml: made from a code, it becomes the class of that code."""

    value: int

    def __new__(cls, code: int) -> NVMLError:
        """Choose the class by the code."""
        error = Exception.__new__(_KINDS.get(code, cls))
        error.value = code
        return error

    def __str__(self) -> str:
        return type(self).__name__.removeprefix("NVMLError_")


_KINDS: dict[int, type[NVMLError]] = {
    code: type(f"NVMLError_{name}", (NVMLError,), {}) for name, code in _CODES.items()
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FakeGpu:
    """One GPU.

    Attributes:
        uuid: begins with `GPU-`.
        waveform: its power.
        name: product name.
        counter_period_ns: how often the energy counter is renewed.
        errors: function name to the error it raises, such as `GpuIsLost` or `NotSupported`; for the
            field of instantaneous power the name is `NVML_FI_DEV_POWER_INSTANT`.
        errors_from_ns: monotonic time from which the errors appear.
    """

    uuid: str
    waveform: Waveform
    name: str = "NVIDIA Fake 100"
    counter_period_ns: int = 20_000_000
    errors: Errors = dataclasses.field(default_factory=dict)
    errors_from_ns: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FakeNvml:
    """A machine's GPUs; `init_error`, such as `LibraryNotFound`, makes nvmlInit fail."""

    gpus: tuple[FakeGpu, ...]
    init_error: str | None = None


@contextmanager
def installed(machine: FakeNvml) -> Iterator[types.ModuleType]:
    """Make `import pynvml` give the double in this process."""
    real = sys.modules.get("pynvml")
    module = sys.modules["pynvml"] = build(machine)
    try:
        yield module
    finally:
        del sys.modules["pynvml"]
        if real is not None:
            sys.modules["pynvml"] = real


def write_module(machine: FakeNvml, folder: Path) -> Path:
    """Write a `pynvml.py` for child processes, and return `folder` for their PYTHONPATH."""
    text = (
        "import sys\n"
        "from slm_energy.testing.nvml import FakeGpu, FakeNvml, build\n"
        "from slm_energy.testing.waveform import Waveform\n"
        f"sys.modules[__name__] = build({machine!r})\n"
    )
    (folder / "pynvml.py").write_text(text, encoding="utf-8")
    return folder


def build(machine: FakeNvml) -> types.ModuleType:
    """Make the double."""
    module: Any = types.ModuleType("pynvml")
    module.NVML_SUCCESS = 0
    module.NVML_TEMPERATURE_GPU = 0
    module.NVML_FI_DEV_POWER_INSTANT = 186
    module.NVMLError = NVMLError
    for kind in _KINDS.values():
        setattr(module, kind.__name__, kind)

    def check(gpu: FakeGpu, function: str) -> None:
        if function in gpu.errors and time.monotonic_ns() >= gpu.errors_from_ns:
            raise NVMLError(_CODES[gpu.errors[function]])

    def init() -> None:
        if machine.init_error:
            raise NVMLError(_CODES[machine.init_error])

    module.nvmlInit = init
    module.nvmlShutdown = lambda: None
    module.nvmlDeviceGetCount = lambda: len(machine.gpus)
    module.nvmlDeviceGetHandleByIndex = lambda index: machine.gpus[index]
    module.nvmlDeviceGetUUID = lambda gpu: gpu.uuid
    module.nvmlDeviceGetName = lambda gpu: gpu.name
    for function, answer in _ANSWERS.items():
        setattr(module, function, _checked(check, function, answer))
    module.nvmlDeviceGetFieldValues = lambda gpu, fields: [_field(check, gpu) for _ in fields]
    built: types.ModuleType = module
    return built


def _checked(check: Any, function: str, answer: Any) -> Any:
    def call(gpu: FakeGpu, *arguments: int) -> Any:
        check(gpu, function)
        return answer(gpu)

    return call


def _field(check: Any, gpu: FakeGpu) -> Any:
    try:
        check(gpu, "NVML_FI_DEV_POWER_INSTANT")
    except NVMLError as error:
        return types.SimpleNamespace(nvmlReturn=error.value)
    value = types.SimpleNamespace(uiVal=_power_mw(gpu))
    return types.SimpleNamespace(nvmlReturn=0, value=value)


def _power_mw(gpu: FakeGpu) -> int:
    return gpu.waveform.power_mw(time.monotonic_ns())


def _energy_mj(gpu: FakeGpu) -> int:
    published = time.monotonic_ns() // gpu.counter_period_ns * gpu.counter_period_ns
    return gpu.waveform.energy_pj(published) // 10**9


def _limit_mw(gpu: FakeGpu) -> int:
    return max(power_mw for _, power_mw in gpu.waveform.steps) * 2


_ANSWERS = {
    "nvmlDeviceGetTotalEnergyConsumption": _energy_mj,
    "nvmlDeviceGetPowerUsage": _power_mw,
    "nvmlDeviceGetEnforcedPowerLimit": _limit_mw,
    "nvmlDeviceGetUtilizationRates": lambda gpu: types.SimpleNamespace(gpu=40, memory=10),
    "nvmlDeviceGetMemoryInfo": lambda gpu: types.SimpleNamespace(used=2_000_000_000),
    "nvmlDeviceGetTemperature": lambda gpu: 45,
}
