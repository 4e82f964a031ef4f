"""Calibrations of this machine's sources: a file for each machine, which meters' sources get.

    DATA/calibrations/MACHINE.json    DATA is the user's data folder, MACHINE as in the store

`slm-energy calibrate` writes it. A calibration holds for a source of the same id and device that is
read in the same way, with the same processor: another driver may average over another time.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from slm_energy.errors import MeterError
from slm_energy.machine import machine_id, processor
from slm_energy.record import Calibration, Source
from slm_energy.serialization import read_json, write_json

SCHEMA = 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredCalibration:
    """One source's.

    Attributes:
        source: its id.
        device: its device then.
        path: how it was read.
        relation: `same`, or `part` if the reference covers more than the source.
        calibration: gain, offset and lag.
    """

    source: str
    device: str | None
    path: str | None
    relation: Literal["same", "part"]
    calibration: Calibration


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Calibrations:
    """All of one machine.

    Attributes:
        machine: its id.
        processor: the processor's name then.
        sources: one per source.
        schema: version of this format.
    """

    machine: str
    processor: str
    sources: tuple[StoredCalibration, ...]
    schema: int = SCHEMA


def place() -> Path:
    """The file of this machine, whether it exists or not."""
    import platformdirs  # missing in a worker's environment

    return Path(platformdirs.user_data_dir("slm_energy")) / "calibrations" / f"{machine_id()}.json"


def store(new: Sequence[StoredCalibration]) -> Path:
    """Add calibrations to this machine's file; those of the same sources are replaced.

    Returns:
        The file.

    Raises:
        MeterError: the file there is not readable.
    """
    file, ids = place(), {one.source for one in new}
    kept = [one for one in _stored() if one.source not in ids]
    file.parent.mkdir(parents=True, exist_ok=True)
    both = tuple(sorted([*kept, *new], key=lambda one: one.source))
    write_json(file, Calibrations(machine=machine_id(), processor=processor(), sources=both))
    return file


def calibrated(sources: Sequence[Source]) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """Give each source the calibration that is stored for it.

    Returns:
        The sources in their order, and a note on each calibration that is used or not.

    Raises:
        MeterError: the file is not readable.
    """
    stored = {one.source: one for one in _stored()}
    known, notes = list[Source](), list[str]()
    for source in sources:
        one = stored.get(source.id)
        if one is not None and (one.device, _way(one.path)) == (source.device, _way(source.path)):
            source = dataclasses.replace(source, calibration=one.calibration)
            notes.append(f"{source.id}: {describe(one.calibration)}")
        elif one is not None:
            notes.append(
                f"{source.id}: {describe(one.calibration)}, which is not used: it was"
                f" {one.device} then, read through {one.path}; run slm-energy calibrate again"
            )
        known.append(source)
    return tuple(known), tuple(notes)


def _way(path: str | None) -> str:
    """How a source is read; the number of a hwmon folder may change at each start."""
    return re.sub(r"/hwmon\d+/", "/hwmon/", path or "")


def describe(calibration: Calibration) -> str:
    """Text such as `calibrated against wall/power on 2026-11-28`."""
    day = datetime.datetime.fromtimestamp(calibration.unix_ns / 1e9, datetime.UTC).date()
    return f"calibrated against {calibration.reference} on {day.isoformat()}"


def _stored() -> tuple[StoredCalibration, ...]:
    """What is stored for this machine and its processor."""
    file = place()
    try:
        known = read_json(file, Calibrations)
        if known.schema != SCHEMA:
            raise ValueError(f"schema {known.schema}, and this version reads {SCHEMA}")
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise MeterError(
            f"the calibrations in {file} cannot be read ({error}): remove the file, and run"
            " slm-energy calibrate again"
        ) from error
    return known.sources if known.processor == processor() else ()
