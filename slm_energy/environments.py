"""Python environments for engines that cannot be installed together with the rest.

    DATA/envs/NAME/         a virtual environment; REQUIREMENTS is written last
    DATA/envs/NAME.lock     one maker at a time
    DATA/envs/NAME.log      what pip said when it was made last

DATA is the user's data folder. A virtual environment cannot be moved, so it is made where it stays,
and counts only once the copy of its requirements is there.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import platformdirs
from filelock import FileLock

from slm_energy import redaction
from slm_energy.errors import ConfigError, one_line

REQUIREMENTS = "installed.txt"
_READY = Path(__file__).parent / "conf" / "env"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

Tell = Callable[[str, str], None]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """One environment as the disk has it.

    Attributes:
        name: what `engine.python` calls it.
        folder: the virtual environment.
        whole: it was made to the end.
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
    """Requirements that come with this package, by name."""
    return {path.stem: path for path in sorted(_READY.glob("*.txt"))}


def existing() -> list[Environment]:
    """Every environment, whole or not."""
    return [
        Environment(
            name=folder.name,
            folder=folder,
            whole=(folder / REQUIREMENTS).is_file(),
            size_bytes=sum(p.lstat().st_size for p in folder.rglob("*") if not p.is_dir()),
        )
        for folder in sorted(place().glob("*/"))
    ]


def missing(name: str) -> str | None:
    """The command that makes a ready environment which is not there yet; None if it is."""
    if name not in ready() or (place() / name / REQUIREMENTS).is_file():
        return None
    return f"slm-energy env create {name}"


def interpreter(asked: str) -> str:
    """Absolute path of the interpreter that `engine.python` means: a path, or an environment.

    Raises:
        ConfigError: there is none.
    """
    if "/" in asked:
        # Not resolved: what a virtual environment's interpreter links to is not in it.
        path = Path(asked).expanduser().absolute()
        if path.is_dir():
            raise ConfigError(f"engine.python={asked} is a folder: name its bin/python")
        if not path.is_file():
            raise ConfigError(f"engine.python={asked}: there is no such interpreter")
        return str(path)
    if (place() / asked / REQUIREMENTS).is_file():
        return str(place() / asked / "bin" / "python")
    whole = [path.parent.name for path in sorted(place().glob(f"*/{REQUIREMENTS}"))]
    remedy = missing(asked) or "slm-energy env create NAME"
    raise ConfigError(
        f"engine.python={asked}: there is no such environment; there are:"
        f" {', '.join(whole) or 'none'}; make it with {remedy}, or name a path such as ./bin/python"
    )


def create(name: str, requirements: Path | None, python: str | None, tell: Tell) -> bool:
    """Make an environment; what fails or is interrupted leaves none.

    Args:
        name: what `engine.python` will call it.
        requirements: file of exact pins; None takes the ready one of that name.
        python: interpreter that it is made with; None is this one.
        tell: called with the step that runs and each line that it says, the first time with none.

    Returns:
        False if it was there already, made from the same requirements.

    Raises:
        ConfigError: it cannot be made.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"env create {name}: a name has letters, digits and _ . - only")
    text = _read(name, requirements)
    folder = place() / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        marker = folder / REQUIREMENTS
        if marker.is_file() and marker.read_text(encoding="utf-8") == text:
            return False
        if marker.is_file():
            raise ConfigError(
                f"environment {name} was made from other requirements: slm-energy env remove {name}"
            )
        try:
            _install(folder, text, python or sys.executable, tell)
            marker.write_text(text, encoding="utf-8")
        finally:
            if not marker.is_file():
                shutil.rmtree(folder, ignore_errors=True)
    return True


def remove(name: str) -> None:
    """Remove an environment.

    Raises:
        ConfigError: there is none of that name.
    """
    folder = place() / name
    if not _NAME.fullmatch(name) or not folder.is_dir():
        names = ", ".join(each.name for each in existing()) or "none"
        raise ConfigError(f"env remove {name}: there is no such environment; there are: {names}")
    with FileLock(f"{folder}.lock"):
        (folder / REQUIREMENTS).unlink(missing_ok=True)  # half an environment must not look whole
        shutil.rmtree(folder)
        Path(f"{folder}.log").unlink(missing_ok=True)


def _read(name: str, requirements: Path | None) -> str:
    if requirements is None and name not in ready():
        raise ConfigError(
            f"env create {name}: give a file of requirements, or take a ready name:"
            f" {', '.join(ready())}"
        )
    path = requirements or ready()[name]
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"env create {name}: {path}: {error.strerror or error}") from error


def _install(folder: Path, text: str, python: str, tell: Tell) -> None:
    if folder.exists():
        shutil.rmtree(folder)  # what a killed maker left
    log = Path(f"{folder}.log")
    log.write_text("", encoding="utf-8")
    _run(f"making {folder}", [python, "-m", "venv", str(folder)], log, tell)
    pins = folder / "pins.txt"
    pins.write_text(text, encoding="utf-8")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    pip += ["install", "--progress-bar", "off"]
    # torch goes first, because pip then takes the build that fits this machine.
    for torch in re.findall(r"^torch==\S+", text, re.MULTILINE):
        _run(f"installing {torch}", [*pip, "-c", str(pins), torch], log, tell)
    count = len(re.findall(r"^\w", text, re.MULTILINE))
    _run(f"installing {count} packages", [*pip, "-r", str(pins)], log, tell)
    pins.unlink()


def _run(step: str, words: Sequence[str], log: Path, tell: Tell) -> None:
    """Run a command to its end; its output goes to the log, line by line.

    Raises:
        ConfigError: it fails.
    """
    tell(step, "")
    try:
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=redaction.inherited(),
            text=True,
        )
    except OSError as error:
        raise ConfigError(f"{words[0]} cannot be run: {error.strerror or error}") from error
    last = "it said nothing"
    with child, log.open("a", encoding="utf-8") as file:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                file.write(line)
                last = line.strip() or last
                tell(step, last)
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        raise ConfigError(f"{step} failed: {one_line(last)}; all of it: {log}")
