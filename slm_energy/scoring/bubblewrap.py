"""Bubblewrap: namespaces for code that a model wrote, without root and without a daemon.

No network, no home, no other processes, no tracking store; the interpreter and the system's
libraries are there to read, and 64 MB of memory to write files in.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from slm_energy.errors import SlmEnergyError, one_line

MIB = 2**20
FILES_MIB = 64
"""Memory for files in the sandbox."""

TESTS = "judge"
"""Module of `inside` that runs tests, which may use numpy: those of EvalPlus on the hub do."""
PACKAGES = Path("/scoring/packages")
"""Where it is in the sandbox."""

_INSIDE = Path(__file__).parent / "inside"
_MOUNTED = Path("/scoring/inside")
_START = (
    "import sys, importlib; sys.path.insert(0, sys.argv[1]);"
    " importlib.import_module(f'inside.{sys.argv[2]}').main(sys.argv[3:])"
)
_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",  # an arena for each thread would use up the address space
}
_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/etc/ld.so.cache")


class SandboxError(SlmEnergyError):
    """Code cannot be isolated on this machine; the message says what to install or allow."""


@functools.cache
def version() -> str:
    """Version of bubblewrap.

    Raises:
        SandboxError: it is not installed, or cannot make its namespaces here.
    """
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxError(
            "no sandbox for generated code: install bubblewrap (apt install bubblewrap), or set"
            " study.sandbox=none to run it with your own rights"
        )
    shown = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    probe = start(["seccomp"], subprocess.DEVNULL, subprocess.PIPE, isolated=True)
    _, errors = probe.communicate()
    if probe.returncode != 0:
        reason = one_line((errors.decode(errors="replace").splitlines() or ["no reason given"])[-1])
        raise SandboxError(
            f"bubblewrap cannot isolate generated code here ({reason}): allow user namespaces"
            " (sysctl kernel.unprivileged_userns_clone=1), or set study.sandbox=none"
        )
    return shown.stdout.strip()


def start(
    words: Sequence[str], stdin: int, stderr: int, *, isolated: bool
) -> subprocess.Popen[bytes]:
    """Start a module of `inside`, in a sandbox of its own if it is to be isolated.

    Args:
        words: its name and arguments.
        stdin: descriptor of its standard input.
        stderr: that of its error output.
        isolated: in the sandbox; else with the rights of this user.
    """
    folder = _MOUNTED if isolated else _INSIDE
    python = [os.path.realpath(sys.executable), "-I", "-S", "-B", "-c", _START]
    return subprocess.Popen(
        [*(_command(words[0]) if isolated else ()), *python, str(folder.parent), *words],
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        env={**_ENVIRONMENT, "PATH": os.environ["PATH"]},
        start_new_session=True,
    )


@functools.cache
def _command(module: str) -> tuple[str, ...]:
    """The words of bubblewrap, up to the command, for a module of `inside`.

    There is no /proc: Python does not need one, and containers often forbid to mount it.
    """
    words = ["bwrap", "--unshare-user", "--unshare-all", "--disable-userns", "--cap-drop", "ALL"]
    words += ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"]
    for name, value in _ENVIRONMENT.items():
        words += ["--setenv", name, value]
    words += ["--size", str(FILES_MIB * MIB), "--tmpfs", "/", "--dev", "/dev"]
    words += ["--size", str(FILES_MIB * MIB), "--tmpfs", "/tmp"]
    if module == TESTS:
        for folder in packages():
            words += ["--ro-bind", str(folder), str(PACKAGES / folder.name)]
    for path in _readable():
        link = os.path.islink(path)
        words += ["--symlink", os.readlink(path), path] if link else ["--ro-bind", path, path]
    words += ["--remount-ro", "/dev", "--ro-bind", str(_INSIDE), str(_MOUNTED)]
    words += ["--remount-ro", "/"]
    return (*words, "--chdir", "/tmp", "--")


def packages() -> list[Path]:
    """Folders of numpy and of the libraries that it brings."""
    spec = importlib.util.find_spec("numpy")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    return [folder for folder in (package, package.with_name("numpy.libs")) if folder.is_dir()]


def _readable() -> list[str]:
    """The system's libraries and this interpreter with its standard library.

    Of the interpreter's folder only the libraries: it may be a home.
    """
    interpreter = os.path.realpath(sys.executable)
    folders = {os.path.dirname(os.path.dirname(interpreter)), sys.base_prefix, sys.base_exec_prefix}
    libraries = [f"{folder}/{name}" for folder in sorted(folders) for name in ("lib", "lib64")]
    kept = list[str]()
    for path in dict.fromkeys([*_SYSTEM, interpreter, *libraries]):
        inside = any(path == other or path.startswith(f"{other}/") for other in kept)
        if os.path.lexists(path) and not inside:
            kept.append(path)
    return kept
