from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slm_energy import machine
from slm_energy.errors import SlmEnergyError
from slm_energy.machine import lock_paths, machine_id, machine_kind, measuring, processor

HOLDER = """
import os, sys, time
from slm_energy.machine import measuring
os.sched_setaffinity(0, map(int, sys.argv[2].split(",")))
share = sys.argv[3] == "share"
with measuring(lambda path: print("busy", flush=True), share=share):
    print("measuring", flush=True)
    time.sleep(float(sys.argv[1]))
"""
HOLD = """
with machine.measuring(print):
    print("measuring", flush=True)
    time.sleep(60)
"""
pytestmark = pytest.mark.usefixtures("own_lock")


class Refused(Exception):
    pass


def refuse(path: Path) -> None:
    raise Refused(path)


PROCESSORS = sorted(os.sched_getaffinity(0))


def holder(
    seconds: float, processors: list[int] = PROCESSORS, *, share: bool = False
) -> subprocess.Popen[str]:
    """Another process that measures; it does so when this returns."""
    command = [sys.executable, "-c", HOLDER, str(seconds)]
    command += [",".join(map(str, processors)), "share" if share else "alone"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "measuring\n"
    return process


def test_a_second_measurement_is_told_and_may_refuse(own_lock: Path) -> None:
    other = holder(60)
    with pytest.raises(Refused, match=str(own_lock)), measuring(refuse):
        pytest.fail("it must not measure")
    other.kill()
    other.communicate()


def test_a_second_measurement_waits_for_the_first(own_lock: Path) -> None:
    other = holder(0.3)
    told: list[Path] = []
    with measuring(told.append):
        assert other.wait(timeout=10) == 0
    assert told == [own_lock]
    other.communicate()


def test_a_killed_measurement_holds_nothing() -> None:
    other = holder(60)
    os.kill(other.pid, signal.SIGKILL)
    other.communicate()
    with measuring(refuse):
        pass


def test_a_lock_file_that_another_user_made_can_be_held(own_lock: Path) -> None:
    own_lock.touch(mode=0o444)
    with measuring(refuse):
        pass


def test_the_lock_of_a_user_with_a_strict_umask_is_open_to_all(own_lock: Path) -> None:
    before = os.umask(0o077)
    with measuring(refuse):
        os.umask(before)
        assert stat.S_IMODE(own_lock.stat().st_mode) == 0o666
    assert list(own_lock.parent.iterdir()) == [own_lock]


def holder_in(folders: str, *before: str) -> subprocess.Popen[str]:
    """Another process that measures with these lock folders, started through a command."""
    script = f"import os, time; from pathlib import Path; from slm_energy import machine; {folders}"
    process = subprocess.Popen(
        [*before, sys.executable, "-c", script + HOLD], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "measuring\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_kept_out_and_may_measure_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        folder.chmod(0o1777)
        monkeypatch.setattr(machine, "LOCK_FOLDERS", (folder,))
        become = "os.umask(0o077); os.setuid(65534)"
        other = holder_in(f"machine.LOCK_FOLDERS = (Path({name!r}),); {become}")
        assert lock_paths()[0].stat().st_uid == 65534
        with pytest.raises(Refused), measuring(refuse):
            pytest.fail("it must not measure")
        end(other)
        with measuring(refuse):
            pass


@pytest.mark.parametrize("kind", ["fifo", "dangling link", "link", "device", "unreadable"])
def test_what_is_not_a_lock_is_named_and_neither_followed_nor_waited_for(
    kind: str, own_lock: Path, tmp_path: Path
) -> None:
    target = tmp_path / "elsewhere"
    match kind:
        case "fifo":
            os.mkfifo(own_lock)
        case "device":
            own_lock.symlink_to("/dev/null")
        case "unreadable":
            own_lock.touch(mode=0)
        case _:
            own_lock.symlink_to(target)
    if kind == "link":
        target.touch()
    if kind == "unreadable" and os.geteuid() == 0:
        pytest.skip("root can read every file")
    with pytest.raises(SlmEnergyError, match=f"the lock {own_lock} cannot be opened"):
        measuring(refuse).__enter__()
    assert target.exists() == (kind == "link")


def test_processes_with_their_own_tmp_shm_and_run_exclude_each_other(
    monkeypatch: pytest.MonkeyPatch, bubblewrap: None
) -> None:
    # Another folder of the kernel's than the one that a real measurement locks.
    folder = Path("/sys/devices/system/clocksource")
    monkeypatch.setattr(machine, "_PROCESSORS", folder)
    monkeypatch.setattr(machine, "LOCK_FOLDERS", (folder, Path("/run/lock-of-nobody")))
    assert lock_paths() == [folder]
    chosen = f"folder = Path({str(folder)!r}); machine._PROCESSORS = folder"
    # It dies with us or its wrapper: else `end` waits until its 60 s are over.
    private = ("bwrap", "--die-with-parent", "--dev-bind", "/", "/", "--tmpfs", "/run")
    other = holder_in(
        f"{chosen}; machine.LOCK_FOLDERS = (folder,)", *private, "--tmpfs", "/dev/shm"
    )
    with pytest.raises(Refused, match=str(folder)), measuring(refuse):
        pytest.fail("it must not measure")
    end(other)


def test_a_machine_without_a_place_for_the_lock_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "LOCK_FOLDERS", (tmp_path / "missing",))
    with pytest.raises(SlmEnergyError, match=r"no place for the machine's lock: none of .*missing"):
        measuring(refuse).__enter__()


def test_no_lock_follows_tmpdir(tmp_path: Path) -> None:
    script = "from slm_energy.machine import LOCK_FOLDERS; print(*LOCK_FOLDERS)"
    variables = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    shown = subprocess.run(
        [sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "/sys/devices/system/cpu /run/lock /dev/shm\n"


@pytest.fixture
def first_processor() -> Iterator[None]:
    """This process may use the first processor only."""
    os.sched_setaffinity(0, PROCESSORS[:1])
    yield
    os.sched_setaffinity(0, PROCESSORS)


@pytest.mark.usefixtures("first_processor")
def test_those_that_share_run_beside_each_other_on_other_processors() -> None:
    other = holder(60, PROCESSORS[1:], share=True)
    with measuring(refuse, share=True):
        pass
    other.kill()
    other.communicate()


@pytest.mark.usefixtures("first_processor")
@pytest.mark.parametrize(
    ("processors", "shares", "share"),
    [
        (PROCESSORS, True, True),  # one processor is the same
        (PROCESSORS[1:], True, False),
        (PROCESSORS[1:], False, True),
    ],
)
def test_an_overlap_is_not_shared_nor_is_a_measurement(
    processors: list[int], shares: bool, share: bool
) -> None:
    other = holder(60, processors, share=shares)
    with pytest.raises(Refused), measuring(refuse, share=share):
        pytest.fail("it must not measure")
    other.kill()
    other.communicate()


def test_the_processors_that_may_be_used_are_told() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "from slm_energy.machine import *; print(allowed_processors())"],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, PROCESSORS[-1:]),
    )
    assert told.stdout == f"{PROCESSORS[-1]}\n"


def test_the_machine_has_one_name() -> None:
    assert machine_id() == machine_id()


def test_a_governor_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    for cpu, governor in enumerate(("schedutil", "performance")):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{governor}\n")
    (tmp_path / "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor").mkdir(parents=True)
    assert machine.governor(tmp_path) == "performance, schedutil"
    assert machine.governor(tmp_path / "elsewhere") is None


def test_the_kind_of_a_machine_is_its_model_processors_and_gpus(tmp_path: Path) -> None:
    product = tmp_path / "sys/class/dmi/id/product_name"
    product.parent.mkdir(parents=True)
    product.write_text("PowerEdge R7525\n")
    for number, (kind, name) in enumerate(
        [("0x030200", "0x20b0"), ("0x030200", "0x20b0"), ("0x020000", "0x1521")]
    ):
        device = tmp_path / f"sys/bus/pci/devices/0000:0{number}:00.0"
        device.mkdir(parents=True)
        facts = {"class": kind, "vendor": "0x10de", "device": name}
        for fact, text in facts.items():
            (device / fact).write_text(f"{text}\n")
    model, *processors, gpus = machine_kind(tmp_path).split(", ")
    assert (model, gpus) == ("PowerEdge R7525", "PCI 10de:20b0 x 2")
    assert ", ".join(processors) == f"{processor()} x {os.cpu_count()}"
