"""How many codes and test messages may be sent: to a destination, by a project, and overall."""

from heliometer.config import LimitSettings
from heliometer.core.quotas import DAY_S, HOUR_S, Quota, Quotas, Use
from heliometer.notifications.channels import find_channel

CODES_AN_HOUR = 3
TESTS_AN_HOUR = 10
"""To one destination, over all projects (docs/decisions/0011)."""


class MessageQuotas:
    """The quotas of whatever is sent at a user's request. Nothing is counted that is refused."""

    def __init__(self, quotas: Quotas, limits: LimitSettings) -> None:
        self._quotas = quotas
        self._codes = _Kind(
            "code", "validation codes", CODES_AN_HOUR, limits.codes_per_hour,
            limits.codes_per_day, limits.codes_per_day_overall,
        )  # fmt: skip
        self._tests = _Kind(
            "test_message", "test messages", TESTS_AN_HOUR, limits.test_messages_per_hour,
            limits.test_messages_per_day, limits.test_messages_per_day_overall,
        )  # fmt: skip

    async def take_code(self, project_id: str, type_: str, destination: str) -> None:
        """Count a code that is to be sent. Raises RATE_LIMITED when that would be too many."""
        await self._quotas.take(*self._codes.uses(project_id, type_, destination))

    async def take_test(self, project_id: str, type_: str, destination: str) -> None:
        """The same for a test message."""
        await self._quotas.take(*self._tests.uses(project_id, type_, destination))


class _Kind:
    """The quotas of one kind of message."""

    def __init__(
        self, name: str, what: str, destination: int, hourly: int, daily: int, overall: int
    ) -> None:
        self._destination = Quota(
            f"{name}_destination", destination, HOUR_S,
            f"{destination} {what.removeprefix('validation ')} were sent to this address within "
            "the last hour.",
        )  # fmt: skip
        self._hourly = Quota(
            f"{name}_project_hour", hourly, HOUR_S,
            f"The project has sent {hourly} {what} within the last hour.",
        )  # fmt: skip
        self._daily = Quota(
            f"{name}_project_day", daily, DAY_S,
            f"The project has sent {daily} {what} within the last 24 hours.",
        )  # fmt: skip
        self._overall = Quota(
            f"{name}_overall_day", overall, DAY_S,
            f"All projects together have sent as many {what} as they may in 24 hours.",
        )  # fmt: skip

    def uses(self, project_id: str, type_: str, destination: str) -> tuple[Use, ...]:
        channel = find_channel(type_)
        owner = channel.owner(destination) if channel is not None else destination
        return (
            self._destination.of(f"{type_}\0{owner}"),
            self._hourly.of(project_id),
            self._daily.of(project_id),
            self._overall.of(),
        )
