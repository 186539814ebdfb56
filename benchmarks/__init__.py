"""Speed and size, measured against the real server.

``python -m benchmarks`` runs everything; ``python -m benchmarks ingest query --quick`` a part of
it, shorter. Each benchmark is one module with ``run(options)`` that returns figures.
"""

BENCHMARKS: dict[str, str] = {
    "ingest": "benchmarks.ingest",
    "single": "benchmarks.single",
    "query": "benchmarks.query",
    "size": "benchmarks.size",
    "start": "benchmarks.start",
    "crash": "benchmarks.crash",
    "alarms": "benchmarks.alarms",
    "feed": "benchmarks.feed",
    "meters": "benchmarks.meters",
    "collect": "benchmarks.collect",
    "console": "benchmarks.console",
    "remote_write": "benchmarks.remote_write",
    "vmalert": "benchmarks.vmalert",
    "clickhouse": "benchmarks.clickhouse",
    "cluster": "benchmarks.cluster",
}
"""Name of each benchmark → its module, imported only when it is run."""
