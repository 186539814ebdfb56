"""The tests of reliability, by number. A test that proves one is marked ``reliability(number)``."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One test, as docs/reliability.md names it."""

    number: int
    title: str
    target: str


CATALOGUE = tuple(
    Row(number, title, target)
    for number, (title, target) in enumerate(
        [
            (
                "load: 200 000 series, 5000 alarms, 30 min",
                "≥ 50 000 points/s, p99 of an answer ≤ 250 ms, no 5xx, all read back, "
                "evaluation ≤ 5 s late (p99)",
            ),
            (
                "`kill -9`, 1000 times at random and at every sync",
                "nothing acknowledged lost, nothing doubled, ready in ≤ 5 s",
            ),
            ("a sync that fails (EIO)", "never acknowledged"),
            (
                "disk full, 50 times",
                "refused; reads go on; writes go on ≤ 10 s after there is space; nothing lost",
            ),
            ("damaged files", "noticed; no more lost than is damaged; nothing deleted"),
            (
                "clock set by an hour and a day, either way",
                "no alarm changes; what expires does",
            ),
            ("backup under load, and restored", "identical answers; no secrets to read in it"),
            (
                "mail, SMS, webhook, AMQP or database down, slow or half open for 30 min",
                "nothing lost; delivered ≤ 2 min after; other channels unaffected",
            ),
            (
                "`kill -9` around commit and sending, 1000 times",
                "each transition told at least once, at most once more a kill, with the same id",
            ),
            (
                "200 restarts during evaluations with `times 3`",
                "history as if there had been none",
            ),
            (
                "a consumer of the feed that stands still for an hour",
                "published = delivered + dropped + queued; others unaffected",
            ),
            ("SIGTERM under load, 50 times", "no broken request; ended in ≤ 10 s"),
            ("random requests to every operation, 10 000 each", "no 5xx"),
            (
                "random expressions, JSON, AMQP frames and line protocols",
                "no crash, nothing that hangs",
            ),
            (
                "evaluation against a naive model, a million expressions",
                "no difference",
            ),
            (
                "every resource of another project, by every verb and reference",
                "status and body as of a missing one",
            ),
            (
                "tokens expired, revoked, absurd, twice; identity service away",
                "401 or 431; never let in",
            ),
            (
                "validation codes guessed, shared, raced for",
                "≤ 5 failures a code, budgets kept, one of 100 racers succeeds",
            ),
            (
                "bodies over the limit, gzip bombs, 1000 slow connections",
                "413; ≤ 32 MiB more; slow ones closed in ≤ 30 s; others' p99 at most doubled",
            ),
            (
                "a million new series a minute from one project",
                "429 beyond its limit; its existing series and other projects unaffected; ≤ 1 GiB",
            ),
            ("bombs of expressions", "bounded; parsed in ≤ 10 ms"),
            (
                "injection into headers, HTML, CSV and logs, 10 000 texts",
                "no header, recipient or script added; one line an event",
            ),
            (
                "TLS, headers, secrets",
                "TLS 1.2 and 1.3; strict headers; Argon2id; a planted secret found nowhere",
            ),
        ],
        start=1,
    )
)
