"""The verb `ui` before its server starts; `test_browser.py` has what a person sees."""

from __future__ import annotations

import socket
from pathlib import Path

from slm_energy.config.groups import TrackingConfig
from slm_energy.store.tracking import Store
from tests.conftest import Command, refusal


def test_a_port_in_use_is_named(tmp_path: Path, slm_energy: Command) -> None:
    Store(TrackingConfig(name="local", folder=str(tmp_path / "mlruns")))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = refusal(slm_energy("ui", f"port={port}", quick=False))
    assert line == f"error: port={port} cannot be used (Address already in use): set port=NUMBER"


def test_a_mistyped_folder_is_not_created(tmp_path: Path, slm_energy: Command) -> None:
    line = refusal(slm_energy("ui", "tracking.folder=mlrnus", quick=False))
    assert "there is no store in mlrnus" in line
    assert not (tmp_path / "mlrnus").exists()
