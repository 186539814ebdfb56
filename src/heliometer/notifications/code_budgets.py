"""How many wrong codes are accepted, of a project, of a client and of all together."""

import math

from heliometer.core.errors import Code, HeliometerError
from heliometer.core.quotas import Quota, Quotas, Use
from heliometer.identity.sign_in_limiter import SIZE, Budgets, Key, network

TRIES = 30
TRIES_OVERALL = 1000
SPAN_S = 600.0
"""Seconds in which a project or a client earns TRIES wrong attempts, and all together
TRIES_OVERALL; more are refused."""


MESSAGE = "Too many wrong validation codes."


class CodeBudgets:
    """Counts wrong attempts, in all processes together where there are several.

    ``now_s`` is any clock of seconds that only goes forward."""

    def __init__(self, quotas: Quotas | None = None) -> None:
        self._quotas = quotas
        self._projects = Budgets(TRIES, SPAN_S / TRIES, SIZE)
        self._clients = Budgets(TRIES, SPAN_S / TRIES, SIZE)
        self._overall = Budgets(TRIES_OVERALL, SPAN_S / TRIES_OVERALL, SIZE)

    async def check(self, project: str, client: str, now_s: float) -> None:
        """Raise RATE_LIMITED while a budget is used up. ``project`` is empty without a token;
        ``client`` is a network address."""
        if self._quotas is not None and self._quotas.shared:
            await self._quotas.check(*_uses(project, client))
        wait_s = max(b.wait_s(key, now_s) for b, key in self._charged(project, client))
        if wait_s > 0:
            if self._quotas is not None:
                self._quotas.refused["wrong_code"] += 1
            raise HeliometerError(
                Code.RATE_LIMITED,
                MESSAGE,
                details="Wait, and use the code of the newest message.",
                retry_after=math.ceil(wait_s),
            )

    async def charge(self, project: str, client: str, now_s: float) -> None:
        """Count a wrong attempt."""
        for budgets, key in self._charged(project, client):
            budgets.start(key)
            budgets.finish(key, now_s, failed=True)
        if self._quotas is not None and self._quotas.shared:
            await self._quotas.count(*_uses(project, client))

    def _charged(self, project: str, client: str) -> list[tuple[Budgets, Key]]:
        # Requests without a token have an overall budget of their own: strangers cannot use up
        # that of users who are signed in.
        overall = ("signed in" if project else "open", "")
        charged = [(self._clients, ("", network(client))), (self._overall, overall)]
        return [*charged, (self._projects, (project, ""))] if project else charged


_PROJECTS = Quota("wrong_code_project", TRIES, round(SPAN_S), MESSAGE)
_CLIENTS = Quota("wrong_code_client", TRIES, round(SPAN_S), MESSAGE)
_OVERALL = Quota("wrong_code_overall", TRIES_OVERALL, round(SPAN_S), MESSAGE)


def _uses(project: str, client: str) -> list[Use]:
    uses = [_CLIENTS.of(network(client)), _OVERALL.of("signed in" if project else "open")]
    return [*uses, _PROJECTS.of(project)] if project else uses
