"""Loads against the scripted server, in this process, and what came of them."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from slm_energy import workload
from slm_energy.config.groups import (
    EngineConfig,
    LoadConfig,
    MeasurementConfig,
    RunConfig,
    WorkloadConfig,
)
from slm_energy.record import Capture, Generation, Window
from slm_energy.testing.completions import CompletionsServer, Service
from slm_energy.worker.served import generations
from slm_energy.worker.serving import serve
from tests.conftest import a_cell, a_trial

MODEL = Path(__file__).parents[1] / "slm_energy" / "bundled" / "model"


@contextlib.contextmanager
def scripted(text: bool = False, **service: float) -> Iterator[CompletionsServer]:
    """A running server with these service times."""
    server = CompletionsServer(0, MODEL, text=text, service=Service(**service))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def open_load(rate: float | None = None, **changes: object) -> LoadConfig:
    """An open load without a ramp."""
    load = LoadConfig(name="open", mode="open", rate=rate, ramp_s=0.0, timeout_s=20.0)
    return dataclasses.replace(load, **changes)  # type: ignore[arg-type]


def closed_load(clients: int = 1, **changes: object) -> LoadConfig:
    """A closed load without a ramp."""
    load = LoadConfig(name="closed", mode="closed", clients=clients, ramp_s=0.0, timeout_s=20.0)
    return dataclasses.replace(load, **changes)  # type: ignore[arg-type]


def captured(
    config: RunConfig,
    load: LoadConfig,
    server: CompletionsServer | None,
    serve_s: float,
    new_tokens: int = 4,
    at_serve: Callable[[], object] = lambda: None,
) -> Capture:
    """The capture of a trial with two prompts.

    Args:
        config: of the scripted engine.
        load: how requests come.
        server: the engine; None takes the scripted one, in this process.
        serve_s: length of the serve window.
        new_tokens: per request.
        at_serve: called when the serve window has begun.
    """
    engine = config.engine
    if server is not None:
        options = {"url": f"http://127.0.0.1:{server.server_port}"}
        engine = EngineConfig(name="openai_server", decode="generate", options=options)
    asked = WorkloadConfig(name="bundled", source="bundled", limit=2, new_tokens=new_tokens)
    measurement = MeasurementConfig(
        name="off", mode="off", baseline_s=0, warmup_requests=0, serve_s=serve_s
    )
    trial = a_trial(
        config,
        cell=a_cell(config, engine=engine, measurement=measurement, workload=asked, load=load),
    )
    begun = set()

    def progress(phase: str, share: float) -> None:
        if phase == "serve" and phase not in begun:
            at_serve()
        begun.add(phase)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "served.bin")
        capture, served = serve(trial, workload.load(asked), None, progress, file)
        return dataclasses.replace(capture, generations=tuple(generations(served, file)))


def due(capture: Capture) -> list[Generation]:
    """The requests due within the serve window."""
    window = serve_window(capture)
    return [
        each
        for each in capture.generations
        if each.due_ns is not None and window.start_ns <= each.due_ns < window.end_ns
    ]


def serve_window(capture: Capture) -> Window:
    """The serve window."""
    window = capture.window("serve")
    assert window is not None
    return window
