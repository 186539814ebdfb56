"""The engine and the naive reference decide alike, whatever happens."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alarms.alarm_reference import MINUTE, Reference
from effort import effort
from heliometer.alarms.engine.engine import Engine
from heliometer.alarms.engine.model import Rules, Watched
from heliometer.alarms.engine.watched_metrics import CAUGHT_UP
from heliometer.alarms.expression import Expression, Logical, Metric, Subexpression, parse
from heliometer.alarms.model import State, Transition
from heliometer.metrics.model import Batch, Series

START = 1_795_000_020_000 // MINUTE * MINUTE
SERIES = [
    Series(1, "p", "cpu", (("host", "a"),)),
    Series(2, "p", "cpu", (("host", "b"), ("rack", "1"))),
    Series(3, "p", "net", (("host", "a"),)),
    Series(4, "q", "cpu", (("host", "a"),)),
    Series(5, "p", "cpu", ()),
]

metrics = st.sampled_from(
    [
        Metric("cpu"),
        Metric("cpu", (("host", "a"),)),
        Metric("cpu", (("host", "b"),)),
        Metric("cpu", (("host", "b"), ("rack", "1"))),
        Metric("net"),
        Metric("disk"),
    ]
)
values = st.sampled_from([-2.0, 0.0, 1.0, 2.0, 3.0, 5.0])
parts = st.builds(
    Subexpression,
    metrics,
    st.sampled_from(["<", "<=", ">", ">="]),
    values,
    st.sampled_from(["min", "max", "sum", "count", "avg"]),
    st.sampled_from([60, 120, 180]),
    st.integers(1, 3),
) | st.builds(Subexpression, metrics, st.sampled_from(["<", "<=", ">", ">="]), values)
expressions: st.SearchStrategy[Expression] = st.recursive(
    parts,
    lambda inner: st.builds(
        Logical, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3).map(tuple)
    ),
    max_leaves=4,
)


@dataclass(frozen=True)
class Measured:
    """A batch: series, seconds before now (negative: ahead), value."""

    rows: list[tuple[int, int, float]]


@dataclass(frozen=True)
class Passed:
    """Time goes by; every minute due is evaluated, ``blind`` if the service was away."""

    seconds: int
    blind: bool = False


@dataclass(frozen=True)
class Restarted:
    """A new engine goes on from what is kept."""


@dataclass(frozen=True)
class Added:
    """Another alarm is watched from now on."""

    expression: Expression


@dataclass(frozen=True)
class Removed:
    """An alarm is watched no longer."""

    which: int


events = st.one_of(
    st.builds(
        Measured,
        st.lists(
            st.tuples(
                st.sampled_from([1, 2, 3, 4, 5]),
                st.integers(-119, 300) | st.integers(-5, 60),
                values,
            ),
            min_size=1,
            max_size=6,
        ),
    ),
    st.builds(Passed, st.integers(1, 150)),
    st.builds(Passed, st.sampled_from([60, 180, 600, 3600]), st.booleans()),
    st.builds(Restarted),
    st.builds(Added, expressions),
    st.builds(Removed, st.integers(0, 5)),
)


@dataclass
class World:
    """Drives the engine and a reference for each alarm through the same events."""

    rules: Rules
    now: int = START + 5_000
    known: dict[int, Series] = field(default_factory=dict)
    stored: list[tuple[int, int, float]] = field(default_factory=list)
    watched: dict[str, Watched] = field(default_factory=dict)
    references: dict[str, Reference] = field(default_factory=dict)
    decided: dict[str, list[tuple[int, int, State, State, bool]]] = field(default_factory=dict)
    blind: set[int] = field(default_factory=set)
    made: int = 0

    def __post_init__(self) -> None:
        self.evaluated = self.now // MINUTE
        self.engine = Engine(self.rules)
        self.engine.restore(b"", self.evaluated * MINUTE)

    def select(
        self, project_id: str, namespace: str, dimensions: Mapping[str, str]
    ) -> list[Series]:
        wanted = set(dimensions.items())
        return [
            s
            for s in self.known.values()
            if (s.project_id, s.namespace) == (project_id, namespace)
            and wanted <= set(s.dimensions)
        ]

    def add(self, expression: Expression) -> None:
        self.made += 1
        watched = Watched(f"alarm {self.made}", "p", expression)
        self.watched[watched.id] = watched
        self.references[watched.id] = Reference(
            "p", expression, self.rules.at_once, self.rules.flapping_changes,
            self.rules.flapping_span_s * 1000, self.known, self.stored, self.evaluated,
            blind=self.blind,
        )  # fmt: skip
        self.watch([watched])

    def watch(self, watched: list[Watched]) -> None:
        for need in self.engine.add(watched, self.select, self.now):
            wanted = set(need.series.tolist())
            rows = [r for r in self.stored if r[0] in wanted and r[1] >= need.since_ms]
            self.engine.fill(batch_of(rows))
        self.engine.filled()

    def happen(self, event: object) -> None:
        match event:
            case Measured(rows):
                taken = [(s, self.now - ago * 1000, v) for s, ago, v in rows]
                new = [s for s in SERIES if s.id in {r[0] for r in taken} - set(self.known)]
                self.known.update((s.id, s) for s in new)
                self.engine.know(new)
                self.stored.extend(taken)
                self.record(self.engine.take(batch_of(taken), self.now))
                for reference in self.references.values():
                    reference.arrived(taken, self.now)
            case Passed(seconds, blind):
                self.now += seconds * 1000
                due = self.now // MINUTE
                for minute in range(max(self.evaluated, due - CAUGHT_UP) + 1, due + 1):
                    self.record(self.engine.evaluate(minute * MINUTE, self.now, blind=blind))
                    for reference in self.references.values():
                        reference.evaluate(minute, self.now, blind=blind)
                    self.evaluated = minute
            case Restarted():
                checkpoint = self.engine.checkpoint()
                self.engine = Engine(self.rules)
                self.watch(
                    [
                        Watched(w.id, "p", w.expression, r.state, tuple(r.changes[-20:]))
                        for w in self.watched.values()
                        for r in [self.references[w.id]]
                    ]
                )
                self.engine.restore(checkpoint, self.evaluated * MINUTE)
            case Added(expression):
                self.add(expression)
            case Removed(which):
                names = sorted(self.watched)
                if len(names) > 1:
                    gone = names[which % len(names)]
                    self.engine.remove([gone])
                    del self.watched[gone], self.references[gone]
        self.compare()

    def record(self, transitions: list[Transition]) -> None:
        for t in transitions:
            self.decided.setdefault(t.alarm_id, []).append(
                (t.at_ms, t.minute_ms // MINUTE, t.old, t.new, t.at_once)
            )

    def compare(self) -> None:
        for alarm_id, reference in self.references.items():
            assert self.decided.get(alarm_id, []) == reference.transitions, alarm_id
            explained = self.engine.explain(alarm_id, self.evaluated * MINUTE)
            assert explained.state is reference.state
            assert explained.truth is reference.truth(reference.expression, self.evaluated)


def batch_of(rows: list[tuple[int, int, float]]) -> Batch:
    return Batch(
        np.array([r[0] for r in rows], np.int64),
        np.array([r[1] for r in rows], np.int64),
        np.array([r[2] for r in rows], np.float64),
    )


# What crosses the threshold of one alarm is no reason to look at another on the same metric.
@example(
    Rules(),
    [parse("min(cpu) < -2")],
    [
        Measured([(1, 0, -2.0)]),
        Added(parse("cpu < -2 and net < 0")),
        Added(parse("cpu < 0 or min(cpu) < -2 and min(net) < -2")),
        Measured([(3, 0, 0.0)]),
    ],
)
@settings(max_examples=effort(100, 6000), deadline=None)
@given(
    st.builds(Rules, st.booleans(), st.integers(2, 4), st.sampled_from([120, 600])),
    st.lists(expressions, min_size=1, max_size=4),
    st.lists(events, max_size=25),
)
@pytest.mark.reliability(15)
def test_the_engine_decides_as_the_reference(
    rules: Rules, watched: list[Expression], happening: list[object]
) -> None:
    world = World(rules)
    for expression in watched:
        world.add(expression)
    for event in happening:
        world.happen(event)
