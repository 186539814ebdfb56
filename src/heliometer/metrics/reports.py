"""What collectors report: of this machine, of a hypervisor's tenants, from near and from afar."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.model import Caller, Permission
from heliometer.metrics.columns import Columns, Measured, of_known
from heliometer.metrics.model import Batch
from heliometer.metrics.receipts import Receipt
from heliometer.metrics.series_index import Name, ProjectSeries
from heliometer.metrics.service import Metrics
from heliometer.projects.model import LEVEL_INTERVAL_S, Found
from heliometer.projects.ports import ProjectStore

log = logging.getLogger(__name__)

OWN = ""
"""How a report calls the project that its sender works for."""


class Collected(Measured, Protocol):
    """One value that a collector read, and the project that it belongs to."""

    @property
    def project_id(self) -> str: ...


@dataclass(slots=True)
class Outcome:
    """What became of a report, by what it called its projects."""

    intervals_s: dict[str, int] = field(default_factory=dict)
    """Seconds between two reports, as each project's monitoring level has it."""
    refused: dict[str, str] = field(default_factory=dict)
    """Why nothing, or not all, was stored for these."""


class Reports:
    """Stores reports that concern several projects at once.

    One project that is gone, or has all the series that it may have, does not keep the others'
    measurements from being stored.
    """

    def __init__(self, metrics: Metrics, projects: ProjectStore) -> None:
        self._metrics = metrics
        self._projects = projects
        self._logged: set[str] = set()
        self.dropped: Counter[str] = Counter()

    async def take(
        self,
        caller: Caller,
        reports: Mapping[str, Callable[[ProjectSeries], Awaitable[Columns]]],
        receipt: Receipt | None,
    ) -> Outcome:
        """Store what an agent sends; return when it is durable.

        ``reports`` decodes each project's part. Raises FORBIDDEN for a caller who may not report
        for other projects, and CONFLICT for reserved namespaces.
        """
        outcome = Outcome()
        batches: list[Batch] = []
        found = dict(await self._projects.resolve([caller.project_id, *filter(None, reports)]))
        found[OWN] = found[caller.project_id]
        for reference, decode in reports.items():
            project = found.get(reference)
            if project is None:
                caller.require(Permission.POST_ELSEWHERE)
                outcome.refused[reference] = "There is no such project."
                continue
            if project.id != caller.project_id:
                caller.require(Permission.POST_ELSEWHERE)
            outcome.intervals_s[reference] = LEVEL_INTERVAL_S[project.level]
            series = await self._metrics.target(caller, None if reference == OWN else project.id)
            try:
                columns = await decode(series)
                try:
                    batches.append(await self._metrics.batch(series, columns))
                except HeliometerError as error:
                    if error.code is not Code.RATE_LIMITED:
                        raise
                    # It has all the series that it may have: those go on.
                    batches.append(await self._metrics.batch(series, of_known(columns, series)))
                    outcome.refused[reference] = error.message
            except HeliometerError as error:
                if error.code is not Code.INVALID:
                    raise
                outcome.refused[reference] = error.message
        await self._metrics.store(batches, receipt)
        return outcome

    async def collected(self, own: str, measured: Sequence[Collected]) -> None:
        """Store what a collector within the service read; return when it is durable.

        ``own`` is the project of what belongs to no other. Raises UNAVAILABLE; nothing is stored
        then. What belongs to projects that are not there is counted in ``dropped``.
        """
        parts: dict[str, list[Collected]] = {}
        for each in measured:
            parts.setdefault(each.project_id, []).append(each)
        found: Mapping[str, Found] = await self._projects.resolve([name for name in parts if name])
        batches: list[Batch] = []
        for reference, part in parts.items():
            project_id = (
                own if reference == OWN else found[reference].id if reference in found else ""
            )
            if not project_id:
                self._drop(reference, len(part), "there is no such project; make it, or map it")
                continue
            try:
                batches.append(self._metrics.batch_collected(project_id, part))
            except HeliometerError as error:
                if error.code is not Code.RATE_LIMITED:
                    raise
                names = [Name(m.namespace, tuple(sorted(m.dimensions.items()))) for m in part]
                known = self._metrics.known(project_id, names)
                old = [m for m, name in zip(part, names, strict=True) if name in known]
                self._drop(reference, len(part) - len(old), error.message)
                batches.append(self._metrics.batch_collected(project_id, old))
        await self._metrics.store(batches, None)

    async def intervals_s(self) -> dict[str, int]:
        """Seconds between two reports of every project whose level is not the default."""
        return {
            project_id: LEVEL_INTERVAL_S[level]
            for project_id, level in (await self._projects.levels()).items()
        }

    def _drop(self, reference: str, measurements: int, why: str) -> None:
        self.dropped[reference] += measurements
        if reference not in self._logged:
            self._logged.add(reference)
            log.warning(
                "measurements read for project %s are left out: %s (logged once)", reference, why
            )
