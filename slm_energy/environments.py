"""Python environments for engines that cannot be installed together with the rest.

    DATA/envs/NAME/         a virtual environment; REQUIREMENTS is written last
    DATA/envs/NAME.lock     held by the process that creates it
    DATA/envs/NAME.log      output of venv and pip when it was last created

DATA is the user's data folder. A virtual environment cannot be moved, so it is created in place,
and counts as complete only once it holds the copy of its requirements.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import platformdirs

from slm_energy import redaction
from slm_energy.errors import ConfigError, one_line
from slm_energy.machine import locked
from slm_energy.shared import share

REQUIREMENTS = "installed.txt"
_READY = Path(__file__).parent / "conf" / "env"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

OnOutput = Callable[[str, str], None]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """One environment on disk.

    Attributes:
        name: its name in `engine.python`.
        folder: the virtual environment.
        whole: its creation finished.
        size_bytes: of all its files.
    """

    name: str
    folder: Path
    whole: bool
    size_bytes: int

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"


def place() -> Path:
    """The folder of all environments."""
    return Path(platformdirs.user_data_dir("slm_energy")) / "envs"


def ready() -> dict[str, Path]:
    """Requirement files that come with this package, by name."""
    return {path.stem: path for path in sorted(_READY.glob("*.txt"))}


def existing() -> list[Environment]:
    """Every environment that this user may read, complete or not."""
    return [
        Environment(
            name=folder.name,
            folder=folder,
            whole=(folder / REQUIREMENTS).is_file(),
            size_bytes=sum(p.lstat().st_size for p in folder.rglob("*") if not p.is_dir()),
        )
        for folder in sorted(place().glob("*/"))
        if os.access(folder, os.R_OK | os.X_OK)
    ]


def missing(name: str) -> str | None:
    """The command that creates a bundled environment; None if it exists or is not a bundled one."""
    if name not in ready() or (place() / name / REQUIREMENTS).is_file():
        return None
    return f"slm-energy env create {name}"


def interpreter(value: str) -> str:
    """Absolute path of the interpreter for `engine.python`, a path or the name of an environment.

    Raises:
        ConfigError: it does not exist.
    """
    if "/" in value:
        # Not resolved: the interpreter of a virtual environment links to one outside it.
        path = Path(value).expanduser().absolute()
        if path.is_dir():
            raise ConfigError(f"engine.python={value} is a folder: give its bin/python")
        if not path.is_file():
            raise ConfigError(f"engine.python={value}: no such interpreter")
        return str(path)
    if (place() / value / REQUIREMENTS).is_file():
        return str(place() / value / "bin" / "python")
    whole = [path.parent.name for path in sorted(place().glob(f"*/{REQUIREMENTS}"))]
    remedy = missing(value) or "slm-energy env create NAME"
    raise ConfigError(
        f"engine.python={value}: no such environment; existing: {', '.join(whole) or 'none'};"
        f" create it with {remedy}, or give a path such as ./bin/python"
    )


def create(name: str, requirements: Path | None, python: str | None, on_output: OnOutput) -> bool:
    """Create an environment; a failed or interrupted creation leaves none.

    Args:
        name: its name in `engine.python`.
        requirements: file of pins, whose dependencies are installed too; None uses the bundled one
            of that name, which lists all that is to be there.
        python: interpreter to create it with; None is this one.
        on_output: called with the running step and each line of its output, first with "".

    Returns:
        False if it existed already, with the same requirements.

    Raises:
        ConfigError: it cannot be created.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"env create {name}: a name consists of letters, digits and _ . -")
    text = _read(name, requirements)
    folder = place() / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        marker = folder / REQUIREMENTS
        if marker.is_file() and marker.read_text(encoding="utf-8") == text:
            return False
        if marker.is_file():
            raise ConfigError(
                f"environment {name} has other requirements: slm-energy env remove {name}"
            )
        try:
            _install(folder, text, python or sys.executable, requirements is None, on_output)
            marker.write_text(text, encoding="utf-8")
            share(folder)
        finally:
            if not marker.is_file():
                shutil.rmtree(folder, ignore_errors=True)
    return True


def remove(name: str) -> None:
    """Remove an environment.

    Raises:
        ConfigError: there is no environment of that name.
    """
    folder = place() / name
    if not _NAME.fullmatch(name) or not folder.is_dir():
        names = ", ".join(environment.name for environment in existing()) or "none"
        raise ConfigError(f"env remove {name}: no such environment; existing: {names}")
    with _alone(folder):
        (folder / REQUIREMENTS).unlink(missing_ok=True)  # a half-removed one must not look complete
        shutil.rmtree(folder)
        Path(f"{folder}.log").unlink(missing_ok=True)


def _alone(folder: Path) -> AbstractContextManager[None]:
    """Keep out other processes that make or remove an environment."""
    return locked(Path(f"{folder}.lock"))


def _read(name: str, requirements: Path | None) -> str:
    if requirements is None and name not in ready():
        raise ConfigError(
            f"env create {name}: give a file of requirements, or use a bundled name:"
            f" {', '.join(ready())}"
        )
    path = requirements or ready()[name]
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"env create {name}: {path}: {error.strerror or error}") from error


def _install(folder: Path, text: str, python: str, is_lock: bool, on_output: OnOutput) -> None:
    """Install what the text names; of a lock that alone, whatever its packages require."""
    if folder.exists():
        shutil.rmtree(folder)  # left by a killed process
    log = Path(f"{folder}.log")
    log.write_text("", encoding="utf-8")
    _run(f"creating {folder}", [python, "-m", "venv", str(folder)], log, on_output)
    pins = folder / "pins.txt"
    pins.write_text(text, encoding="utf-8")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    pip += ["install", "--progress-bar", "off"]
    # torch first: pip then selects the build that fits this machine, with that build's libraries.
    for torch in re.findall(r"^torch==\S+", text, re.MULTILINE):
        _run(f"installing {torch}", [*pip, "-c", str(pins), torch], log, on_output)
    count = len(re.findall(r"^\w", text, re.MULTILINE))
    only = ["--no-deps"] if is_lock else []
    _run(f"installing {count} packages", [*pip, *only, "-r", str(pins)], log, on_output)
    pins.unlink()


def _run(step: str, command: Sequence[str], log: Path, on_output: OnOutput) -> None:
    """Run a command until it ends; its output goes to the log, line by line.

    Raises:
        ConfigError: it fails.
    """
    on_output(step, "")
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=redaction.without_store(),
            text=True,
        )
    except OSError as error:
        raise ConfigError(f"{command[0]} cannot be run: {error.strerror or error}") from error
    last = "no output"
    with child, log.open("a", encoding="utf-8") as file:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                file.write(line)
                last = line.strip() or last
                on_output(step, last)
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        raise ConfigError(f"{step} failed: {one_line(last)}; full log: {log}")
