"""Which measurements flow: the flags of series against asking each subscription."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heliometer.feed.messages import Renderer
from heliometer.feed.model import Subscription
from heliometer.feed.subscription_index import SubscriptionIndex
from heliometer.metrics.model import Series

pairs = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=3).map(
    lambda d: tuple(sorted(d.items()))
)
projects = st.sampled_from(["shop", "stock"])
namespaces = st.sampled_from(["web", "hpcs.compute", "hpcs.host"])
series_lists = st.lists(st.tuples(projects, namespaces, pairs), unique=True, max_size=12)
subscriptions = st.tuples(projects, namespaces, pairs)


@given(
    series_lists,
    st.lists(st.tuples(st.booleans(), subscriptions), max_size=10),
    st.integers(0, 12),
    st.integers(0, 5000),
)
def test_a_series_flows_exactly_when_a_subscription_matches(
    names: list[tuple[str, str, tuple[tuple[str, str], ...]]],
    changes: list[tuple[bool, tuple[str, str, tuple[tuple[str, str], ...]]]],
    known: int,
    first_id: int,
) -> None:
    every = [Series(first_id + i, *name) for i, name in enumerate(names)]
    now = every[:known]

    def select(project: str, namespace: str, dimensions: object) -> list[Series]:
        return [s for s in now if (s.project_id, s.namespace) == (project, namespace)]

    matching = SubscriptionIndex(select)
    there: dict[tuple[str, str, tuple[tuple[str, str], ...]], Subscription] = {}
    for number, (remove, (project, namespace, dimensions)) in enumerate(changes):
        key = project, namespace, dimensions
        if number == len(changes) // 2:
            now = every
            matching.know(every[known:])
        if remove and key in there:
            matching.remove(there.pop(key))
        elif key not in there:
            there[key] = Subscription(str(number), "e", project, namespace, dimensions, 0)
            matching.add(there[key])
    now = every
    matching.know(every)
    ids = np.array([s.id for s in every] + [99_999], np.int64)
    flows = set(ids[matching.wanted(ids)].tolist())
    assert flows == {s.id for s in every if any(w.matches(s) for w in there.values())}
    assert len(matching) == len(there)


def test_messages_hold_what_was_measured() -> None:
    series = Series(7, "p", "web", (("host", 'a"\\'),))
    renderer = Renderer({7: series}.__getitem__)
    bodies = renderer.render([7, 7, 7], [1_000, 1_500, 0], [1.0, -2.5e-7, 1e22])
    head = b'{"namespace":"web","dimensions":{"host":"a\\"\\\\"},'
    assert bodies == [
        head + b'"timestamp":1,"value":1.0}',
        head + b'"timestamp":1.5,"value":-2.5e-07}',
        head + b'"timestamp":0,"value":1e+22}',
    ]
