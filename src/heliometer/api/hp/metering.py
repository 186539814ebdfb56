"""The monitoring level (v1.1 §4.4.8)."""

import msgspec
from starlette.responses import Response

from heliometer.api.hp import wire
from heliometer.http.operation import Call, Operation, Parameter
from heliometer.identity.model import Permission
from heliometer.projects.metering import Metering


class MeteringSetting(msgspec.Struct):
    """A setting for support and billing (v1.1 §4.4.8)."""

    setting: str
    value: str


class MeteringOperations:
    """Shows and sets the level."""

    def __init__(self, metering: Metering) -> None:
        self._metering = metering

    def operations(self) -> tuple[Operation, ...]:
        """The operations of v1.1."""
        return (
            Operation(
                "POST", "/metering", "Set the monitoring level", "v1.1 §4.4.8.1", self.set_level,
                Permission.MANAGE, reply=MeteringSetting,
                parameters=(
                    Parameter(
                        "monitoring_level", "Resolution of system metrics: 300 s or 60 s.", True,
                        schema={"type": "string", "enum": ["basic", "premium"]},
                        example="premium",
                    ),
                ),
            ),
            Operation(
                "GET", "/metering", "Get the monitoring level", "v1.1 §4.4.8.2", self.get_level,
                Permission.READ, reply=MeteringSetting,
            ),
        )  # fmt: skip

    async def get_level(self, call: Call) -> Response:
        return _setting(await self._metering.level(call.caller))

    async def set_level(self, call: Call) -> Response:
        level = wire.required(
            call.request.query_params, "monitoring_level", "Such as monitoring_level=premium."
        )
        await self._metering.set_level(call.caller, level)
        return _setting(level)


def _setting(level: str) -> Response:
    return wire.json_response({"setting": "monitoring_level", "value": level})
