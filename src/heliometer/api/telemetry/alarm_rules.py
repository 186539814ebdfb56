"""Ceilometer's alarm rules as expressions, and back (v1.1 §2.5)."""

import math
from typing import Any

import msgspec

from heliometer.alarms.expression import Expression, Logical, Metric, Subexpression, parse
from heliometer.alarms.expression.nodes import FUNCTIONS, Operator
from heliometer.alarms.service import Alarms
from heliometer.api.telemetry import wire
from heliometer.api.telemetry.query import METADATA, OPERATORS
from heliometer.core.errors import HeliometerError, Malformed
from heliometer.identity.model import Caller
from heliometer.meters.model import CUSTOM_NAMESPACE, INSTANCE, NAME, RESOURCE
from heliometer.meters.service import Meters
from heliometer.metrics.validation import check_dimension

COMPARISONS: dict[str, Operator] = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_WORDS = {operator: word for word, operator in COMPARISONS.items()}


class QueryFields(msgspec.Struct):
    """A condition of a threshold rule."""

    field: str
    value: str
    op: str | None = None
    type: str | None = None


class ThresholdRule(msgspec.Struct):
    """Compares a statistic of a meter with a threshold."""

    meter_name: str
    threshold: float
    comparison_operator: str = "eq"
    statistic: str = "avg"
    period: int = 60
    evaluation_periods: int = 1
    query: list[QueryFields] = []
    exclude_outliers: bool = False


class CombinationRule(msgspec.Struct):
    """Combines the conditions of other alarms."""

    alarm_ids: list[str]
    operator: str = "and"


class Rules:
    """Turns rules into expressions over the meters and alarms of the caller's project."""

    def __init__(self, alarms: Alarms, meters: Meters) -> None:
        self._alarms = alarms
        self._meters = meters

    async def combination(self, caller: Caller, rule: CombinationRule) -> Expression:
        """The expressions of other alarms, joined. Raises MALFORMED."""
        if rule.operator not in ("and", "or"):
            raise Malformed(f"Invalid operator {rule.operator[:20]!r}: must be and or or.")
        if len(set(rule.alarm_ids)) < 2:
            raise Malformed(
                "Alarm combination rule should contain at least two different alarm ids."
            )
        parts: list[Expression] = []
        for alarm_id in dict.fromkeys(rule.alarm_ids):
            try:
                parts.append(parse((await self._alarms.get(caller, alarm_id)).expression))
            except HeliometerError as error:
                raise Malformed(f"Alarm {alarm_id[:80]} Not Found") from error
        return Logical("and" if rule.operator == "and" else "or", tuple(parts))

    async def threshold(self, caller: Caller, rule: ThresholdRule) -> Expression:
        """A comparison for each namespace with the meter, joined by ``or``. Raises MALFORMED."""
        _check(rule)
        parts: list[Expression] = [
            Subexpression(
                metric, COMPARISONS[rule.comparison_operator], rule.threshold,
                FUNCTIONS[rule.statistic], rule.period, rule.evaluation_periods,
            )
            for metric in await self._metrics(caller, rule)
        ]  # fmt: skip
        # Parsing it again applies the checks that every expression is subject to.
        return parse(str(parts[0] if len(parts) == 1 else Logical("or", tuple(parts))))

    async def _metrics(self, caller: Caller, rule: ThresholdRule) -> list[Metric]:
        namespace, resource, metadata = _selection(caller, rule.query)
        fields = {"name": rule.meter_name} | ({"namespace": namespace} if namespace else {})
        series = [
            meter.series for meter in self._meters.meters(await self._meters.select(caller, fields))
        ]
        spaces = dict.fromkeys(s.namespace for s in series) or {namespace or CUSTOM_NAMESPACE: None}
        found = []
        for space in spaces:
            here = [s for s in series if s.namespace == space]
            keys = {key for s in here for key, _ in s.dimensions}
            pairs = dict(metadata)
            if NAME in keys or not here:
                pairs[NAME] = rule.meter_name
            if resource is not None:
                key = INSTANCE if INSTANCE in keys and RESOURCE not in keys else RESOURCE
                pairs[key] = resource
            for key, value in pairs.items():
                check_dimension(key, value, "threshold_rule.query")
            found.append(Metric(space, tuple(sorted(pairs.items()))))
        return found


def _check(rule: ThresholdRule) -> None:
    if rule.statistic not in FUNCTIONS:
        raise Malformed(
            f"Invalid statistic {rule.statistic[:40]!r}: must be one of {', '.join(FUNCTIONS)}."
        )
    if rule.comparison_operator not in COMPARISONS:
        supported = rule.comparison_operator in OPERATORS
        raise Malformed(
            f"Invalid comparison_operator {rule.comparison_operator[:40]!r}: "
            f"{'is not supported; ' if supported else ''}must be one of "
            f"{', '.join(COMPARISONS)}."
        )
    if rule.period < 60 or rule.period % 60:
        raise Malformed(f"Invalid period {rule.period}: must be a multiple of 60 seconds.")
    if rule.evaluation_periods < 1 or not math.isfinite(rule.threshold):
        raise Malformed("evaluation_periods must be 1 or more, and threshold a number.")


def _selection(
    caller: Caller, query: list[QueryFields]
) -> tuple[str | None, str | None, dict[str, str]]:
    """The namespace, resource and further dimensions that the conditions of a rule name."""
    namespace, resource, metadata = None, None, {}
    for condition in query:
        field, value = condition.field, condition.value
        if condition.op not in (None, "", "eq"):
            raise Malformed(f"Unimplemented operator '{condition.op}' for specified field.")
        if field in ("project_id", "project"):
            wire.check_project(caller, value)
        elif field in ("resource_id", "resource"):
            resource = value
        elif field == "namespace":
            namespace = value
        elif field.startswith(METADATA):
            metadata[field.partition(".")[2]] = value
        else:
            raise Malformed(
                f"Unrecognized field in query: {field[:40]}. valid keys: ['resource_id', "
                "'project_id', 'namespace', 'metadata.KEY']"
            )
    return namespace, resource, metadata


def threshold_rule(part: Subexpression) -> dict[str, Any]:
    """A subexpression as a rule, with all fields that clients expect."""
    dimensions = dict(part.metric.dimensions)
    name = dimensions.pop(NAME, part.metric.namespace)
    query = [{"field": "namespace", "op": "eq", "value": part.metric.namespace, "type": "string"}]
    for key, value in dimensions.items():
        field = "resource_id" if key in (RESOURCE, INSTANCE) else f"metadata.{key}"
        query.append({"field": field, "op": "eq", "value": value, "type": "string"})
    return {
        "meter_name": name,
        "threshold": part.threshold,
        "comparison_operator": _WORDS[part.operator],
        "statistic": part.effective_function,
        "period": part.period_s,
        "evaluation_periods": part.times,
        "query": query,
        "exclude_outliers": False,
    }
