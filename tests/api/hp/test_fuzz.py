"""Whatever is sent, the answer is never an error of ours. Examples are the same in every run."""

import json
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.people import People
from effort import effort

FEW = settings(
    max_examples=effort(100, 6000),
    deadline=None,
    derandomize=True,
    database=None,
)

texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["fuzz", "hpcs.compute", "x" * 65, "\0", "\ud800", "é", "a:b,c", "1e400"]),
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), texts, st.just(0), st.just(10**400)
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=10,
)
metrics = st.dictionaries(
    st.one_of(
        st.sampled_from(["namespace", "dimensions", "timestamp", "value", "time_values"]), texts
    ),
    values,
    max_size=6,
).map(lambda given: {"namespace": "fuzz", "value": 1, **given})
documents = st.one_of(values, metrics, st.lists(metrics, max_size=4))
bodies = st.one_of(
    st.binary(max_size=200),
    documents.map(lambda d: json.dumps(d).encode("utf-8", "surrogatepass")),
    documents.map(lambda d: json.dumps(d, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.integers(1, 100_000).map(lambda n: b"[" * n),
    st.integers(1, 5000).map(lambda n: b'{"dimensions":' * n),
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "Content-Type": st.sampled_from(["application/json", "text/xml", ";", "a" * 300, "\xff"]),
        "Content-Encoding": st.sampled_from(["gzip", "identity", "deflate", "\xff"]),
        "Accept": st.sampled_from(["*/*", "text/html", ",;q=0", "\xff", "application/json;q=x"]),
        "Idempotency-Key": st.sampled_from(["", "k", "\xff", "x" * 300]),
        "X-Tenant-Id": st.sampled_from(["", "x", "\xff", "0" * 32]),
    },
)


@pytest.fixture(scope="module")
def client(people: People) -> Iterator[httpx.Client]:
    with people.client("agent") as connected:
        yield connected


def check(reply: httpx.Response) -> None:
    assert reply.status_code < 500, reply.text
    if reply.status_code >= 400:
        (fault,) = reply.json().values()
        assert fault["code"] == reply.status_code
        assert fault["message"]


@FEW
@given(bodies, st.sampled_from(["/v1.1/metrics", "/v1.1/metrics/aggregate"]), headers)
@pytest.mark.reliability(13)
def test_any_body_gets_an_answer(
    client: httpx.Client,
    body: bytes,
    path: str,
    headers: dict[str, str],
) -> None:
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    check(client.post(path, content=body, headers=encoded))


parameters = st.sampled_from(
    ["namespace", "dimensions", "statistics", "start_time", "end_time", "period", "limit", "marker"]
)
words = st.one_of(
    texts.map(lambda t: t.encode("utf-8", "replace").decode()),
    st.sampled_from(["avg", "count,", "2013-11-01T12:00Z", "9999-12-31T23:59:59.999999Z", "0",
                     "0001-01-01T00:00:00+14:00", "99999999999", "\\", "a:\\", ":,:", "-1",
                     "W10="]),
)  # fmt: skip
usual = {"namespace": "fuzz", "statistics": "avg", "start_time": "2013-11-01"}


@FEW
@given(
    st.lists(st.tuples(parameters, words), max_size=5),
    st.sampled_from(["/v1.1/metrics", "/v1.1/metrics/series", "/v1.1/metering"]),
    st.booleans(),
)
@pytest.mark.reliability(13)
def test_any_query_gets_an_answer(
    client: httpx.Client,
    pairs: list[tuple[str, str]],
    path: str,
    complete: bool,
) -> None:
    named = {name for name, _ in pairs}
    missing = [(k, v) for k, v in usual.items() if complete and k not in named]
    check(client.get(path, params=[*pairs, *missing]))


@FEW
@given(st.binary(max_size=60).map(lambda raw: "".join(f"%{byte:02x}" for byte in raw)))
@pytest.mark.reliability(13)
def test_any_query_string_and_path_gets_an_answer(client: httpx.Client, escaped: str) -> None:
    check(client.get(f"/v1.1/metrics?{escaped}"))
    check(client.get(f"/v1.1/metrics?namespace={escaped}&statistics=avg&start_time={escaped}"))
    check(client.get(f"/v1.1/{escaped}"))
