"""Receives a push: what is the same in all formats, around the decoding of each."""

from collections.abc import Callable
from typing import TypeVar

from heliometer.api.push.intake import Intake
from heliometer.api.push.naming import namespace_of
from heliometer.http.operation import Call, Parameter
from heliometer.identity.model import Permission
from heliometer.metrics.columns import Columns
from heliometer.metrics.series_index import ProjectSeries
from heliometer.metrics.service import Metrics

T = TypeVar("T")

PROJECT = Parameter("project", "With a password: the project, by name or id.")
"""Read when the caller is authenticated."""


class Receiver:
    """Receives requests of one format.

    ``form`` names the format in receipts and in the spellings of series (see
    ``ProjectSeries.spellings``). A body of up to ``inline_bytes`` is decoded on the event loop, a
    larger one in a thread, so that others are answered meanwhile.
    """

    def __init__(self, metrics: Metrics, form: str, inline_bytes: int) -> None:
        self._metrics = metrics
        self._form = form
        self._inline_bytes = inline_bytes

    async def destination(self, call: Call, namespace: str) -> tuple[ProjectSeries, str]:
        """The project, and a legal namespace. Raises as ``Metrics.target``, ``namespace_of``."""
        tenant = call.request.headers.get("x-tenant-id")
        project = await self._metrics.target(call.caller, tenant)
        reserved_allowed = Permission.POST_RESERVED in call.caller.permissions
        return project, namespace_of(namespace, reserved_allowed=reserved_allowed)

    def intake(self, project: ProjectSeries) -> Intake:
        """Gathers the samples of a request that arrived now."""
        return Intake(project, self._form, self._metrics.now_ms())

    async def decode(self, call: Call, body: bytes, read: Callable[[], T]) -> T:
        """Call ``read``, which decodes the body."""
        return await call.decode(body, read, self._inline_bytes)

    async def store(self, intake: Intake, columns: Columns, body: bytes, where: str) -> None:
        """Store the columns; of new series beyond the project's limit, none.

        ``body`` and ``where`` it goes identify a repeated request.
        """
        once = body if intake.stamped else None
        where = f"{self._form} {where}"
        samples, why = await self._metrics.push(intake.project, columns, once, where)
        if samples:
            intake.leave_out(why, samples)
