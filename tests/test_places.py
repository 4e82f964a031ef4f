"""Errors of the file system name the path and the key to change."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from slm_energy.errors import SlmEnergyError
from slm_energy.places import file_error, file_errors, naming

PLACES = [
    ("tracking.folder", "/data/mlruns"),
    ("cache.folder", "/data/mlruns/cache"),
    ("model.source", "/models/qwen"),
]


def line(number: int, path: str) -> str:
    return str(file_error(OSError(number, os.strerror(number), path), PLACES))


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/data/mlruns/pending/m1/t1/record.json", "tracking.folder"),
        ("/data/mlruns", "tracking.folder"),
        ("/data/mlruns/cache/onnx/1.lock", "cache.folder"),
        ("/models/qwen/model.safetensors", "model.source"),
        ("/models", "model.source"),  # it has to be made for the one below it
        ("TEMPORARY/slm-energy.x/marks", "TMPDIR"),
    ],
)
def test_the_key_is_that_of_the_innermost_place(path: str, key: str) -> None:
    path = path.replace("TEMPORARY", tempfile.gettempdir())
    assert line(errno.EACCES, path) == (
        f"cannot use {path}: Permission denied; give this user access, or set {key}=PATH"
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "cannot write /data/mlruns/x: No space left on device; free space, or set"),
        (errno.EROFS, "cannot write /data/mlruns/x: Read-only file system; set"),
        (errno.ENOENT, "cannot use /data/mlruns/x: No such file or directory; put it back, or set"),
        (errno.ENOTDIR, "cannot use /data/mlruns/x: Not a directory; set"),
    ],
)
def test_the_advice_follows_from_the_cause(number: int, text: str) -> None:
    assert line(number, "/data/mlruns/x") == f"{text} tracking.folder=PATH"


def test_a_path_of_no_key_stands_alone() -> None:
    assert line(errno.EACCES, "/elsewhere/x").endswith("Permission denied; give this user access")


def test_a_write_to_a_full_disk_names_its_file() -> None:
    full = Path("/dev/full")
    with (
        pytest.raises(SlmEnergyError, match="cannot write /dev/full: No space left on device"),
        file_errors([("tracking.folder", "/dev")]),
        naming(full),
    ):
        full.write_text("x")


def test_what_is_no_file_is_not_taken_for_one() -> None:
    with (
        pytest.raises(ConnectionResetError),
        file_errors(PLACES),
        naming(Path("/data/mlruns/x")),
    ):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
