"""How devices at the wall answer over HTTP: addresses, JSON, units and steps.

netio           a NETIO PowerBOX (JSON API): whole watts and watt-hours
shelly          a Shelly plug since the second generation (Switch.GetStatus): 0.001 Wh
shelly_gen1     one of the first (status): whole watt-minutes
tasmota         a plug with Tasmota (Status 8): 0.001 kWh
home_assistant  a state of its REST API: numbers in quotes, with their unit
prometheus      an instant query of its HTTP API: numbers in quotes, joules
redfish         a server's EnvironmentMetrics: 0.001 kWh
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

Shape = Literal[
    "netio", "shelly", "shelly_gen1", "tasmota", "home_assistant", "prometheus", "redfish"
]
Quantity = Literal["power", "energy"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DeviceShape:
    """A kind of device.

    Attributes:
        files: path and query of the address, by quantity.
        paths: path in the response and unit, by quantity.
        power_step_mw: step of the power.
        energy_step_mj: step of the energy.
        answer: the response, from what was asked for, the power, and the energy.
    """

    files: dict[Quantity, str]
    paths: dict[Quantity, tuple[str, str]]
    power_step_mw: int
    energy_step_mj: int
    answer: Callable[[Quantity, Any, Any], Any]


def _same(file: str) -> dict[Quantity, str]:
    return {"power": file, "energy": file}


SHAPES = {
    "netio": DeviceShape(
        files=_same("/netio.json"),
        paths={"power": ("Outputs.0.Load", "W"), "energy": ("Outputs.0.Energy", "Wh")},
        power_step_mw=1000,
        energy_step_mj=3_600_000,
        answer=lambda _, power, energy: {
            "Agent": {"Model": "PowerBOX 4KE"},
            "Outputs": [{"ID": 1, "State": 1, "Load": power, "Energy": energy}],
        },
    ),
    "shelly": DeviceShape(
        files=_same("/rpc/Switch.GetStatus?id=0"),
        paths={"power": ("apower", "W"), "energy": ("aenergy.total", "Wh")},
        power_step_mw=100,
        energy_step_mj=3_600,
        answer=lambda _, power, energy: {
            "id": 0,
            "output": True,
            "apower": power,
            "aenergy": {"total": energy, "minute_ts": 1700000000},
        },
    ),
    "shelly_gen1": DeviceShape(
        files=_same("/status"),
        paths={"power": ("meters.0.power", "W"), "energy": ("meters.0.total", "Wmin")},
        power_step_mw=10,
        energy_step_mj=60_000,
        answer=lambda _, power, energy: {
            "meters": [{"power": power, "is_valid": True, "total": energy}]
        },
    ),
    "tasmota": DeviceShape(
        files=_same("/cm?cmnd=Status%208"),
        paths={
            "power": ("StatusSNS.ENERGY.Power", "W"),
            "energy": ("StatusSNS.ENERGY.Total", "kWh"),
        },
        power_step_mw=1000,
        energy_step_mj=3_600_000,
        answer=lambda _, power, energy: {
            "StatusSNS": {"ENERGY": {"Total": energy, "Power": power}}
        },
    ),
    "home_assistant": DeviceShape(
        files={
            "power": "/api/states/sensor.plug_power",
            "energy": "/api/states/sensor.plug_energy",
        },
        paths={"power": ("state", "W"), "energy": ("state", "kWh")},
        power_step_mw=100,
        energy_step_mj=36_000,
        answer=lambda quantity, power, energy: {
            "entity_id": f"sensor.plug_{quantity}",
            "state": str(power if quantity == "power" else energy),
            "attributes": {"unit_of_measurement": "W" if quantity == "power" else "kWh"},
        },
    ),
    "prometheus": DeviceShape(
        files={"power": "/api/v1/query?query=watts", "energy": "/api/v1/query?query=joules_total"},
        paths={"power": ("data.result.0.value.1", "W"), "energy": ("data.result.0.value.1", "J")},
        power_step_mw=100,
        energy_step_mj=1000,
        answer=lambda quantity, power, energy: {
            "status": "success",
            "data": {
                "resultType": "vector",
                "result": [
                    {
                        "metric": {"instance": "plug"},
                        "value": [1700000000.5, str(power if quantity == "power" else energy)],
                    }
                ],
            },
        },
    ),
    "redfish": DeviceShape(
        files=_same("/redfish/v1/Chassis/1/EnvironmentMetrics"),
        paths={"power": ("PowerWatts.Reading", "W"), "energy": ("EnergykWh.Reading", "kWh")},
        power_step_mw=1000,
        energy_step_mj=3_600_000,
        answer=lambda _, power, energy: {
            "PowerWatts": {"Reading": power},
            "EnergykWh": {"Reading": energy},
        },
    ),
}
