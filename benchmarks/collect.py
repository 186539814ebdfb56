"""The agent: a round of a thousand virtual machines, and what it takes while it idles.

libvirt's test driver stands for the hypervisor (``pip install libvirt-python``). It has no answer
for all domains at once, so that a call for each device is in the figure, which a real hypervisor
spares. Agent and server share one core.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from benchmarks.figures import Figure, Options
from benchmarks.server import PASSWORD, Server
from heliometer.cli.access import Access
from heliometer.cli.report_sender import Sender
from heliometer.collectors import load_collector
from heliometer.collectors.libvirt.owners import Owners
from heliometer.collectors.spool import Spool

DOMAINS = 1000
TENANTS = 10
ROUNDS = 5
DOMAIN = """
<domain type='test'><name>vm{n}</name><uuid>00000000-0000-4000-8000-{n:012d}</uuid>
<memory>8192</memory><vcpu>2</vcpu><os><type>hvm</type></os><devices>
<disk type='file' device='disk'><source file='/vm{n}/disk'/><target dev='vda' bus='virtio'/></disk>
<interface type='network'><mac address='52:54:00:{a:02x}:{b:02x}:01'/><source network='default'/>
<target dev='tap{n}'/></interface></devices></domain>
"""
NETWORK = """
<network type='test'><name>default</name><bridge name='virbr0'/>
<ip address='192.168.122.1' netmask='255.255.255.0'/></network>
"""


def run(options: Options) -> list[Figure]:
    """Seconds from asking the hypervisor to the durable report, and the agent's memory."""
    figures = []
    try:
        import libvirt  # noqa: F401
    except ImportError:
        print("libvirt-python is not installed (pip install libvirt-python): no round of domains")
    else:
        figures += _round(options)
    return [*figures, *_idle(options)]


def _round(options: Options) -> list[Figure]:
    domains = DOMAINS // 10 if options.quick else DOMAINS
    world = options.folder / "domains.xml"
    inner = "".join(DOMAIN.format(n=n, a=n // 256, b=n % 256) for n in range(domains))
    world.write_text(f"<node>{NETWORK}{inner}</node>")
    # The server starts with the affinity of who starts it.
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        with Server(options.folder / "data") as server:
            for tenant in range(TENANTS):
                _command(options, "project", "create", f"tenant{tenant}")
            _command(options, "user", "create", "agent", "--project", "tenant0", "--role", "agent",
                     "--password-stdin")  # fmt: skip
            return _rounds(options, world, server, domains)
    finally:
        os.sched_setaffinity(0, cores)


def _rounds(options: Options, world: Path, server: Server, domains: int) -> list[Figure]:
    owners = Owners({f"vm*{tenant}": f"tenant{tenant}" for tenant in range(TENANTS)})
    counts: Counter[str] = Counter()
    collector = load_collector("libvirt", uri=f"test://{world}", owners=owners, counts=counts)
    url = "http://{}:{}".format(*server.address)
    access = Access(url=url, username="agent", password=PASSWORD, project="tenant0")
    spool = Spool(options.folder / "spool", 1 << 30)
    spool.open()
    took, read, measurements = [], [], 0
    with access.connect(attempts=1) as client:
        sender = Sender(client, spool)
        for _ in range(ROUNDS):
            began = time.perf_counter()
            found = collector.collect(int(time.time()) * 1000, lambda _: True)
            read.append(time.perf_counter() - began)
            sender.deliver_now(found)
            took.append(time.perf_counter() - began)
            measurements = len(found)
            assert spool.size() == (0, 0), "the server did not take it"
            time.sleep(1)
    spool.close()
    return [
        Figure(
            f"first round of {counts['domains']} domains",
            took[0],
            "s",
            note="every definition is read, every series is new",
        ),
        Figure(
            "a round, collected and stored durably",
            max(took[1:]),
            "s",
            at_most=5.0 * domains / DOMAINS,
            note=f"{measurements:,} measurements of {TENANTS} tenants; reading them "
            f"{max(read[1:]):.2f} s; agent and server on one core",
        ),
    ]


def _idle(options: Options) -> list[Figure]:
    process = subprocess.Popen(
        [sys.executable, "-m", "heliometer", "collect", "--url", "http://127.0.0.1:1",
         "--interval", "1", "--spread", "0", "--spool", str(options.folder / "idle")],
        env={**os.environ, "OS_USERNAME": "a", "OS_PASSWORD": "b", "OS_PROJECT_NAME": "c"},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        time.sleep(4 if options.quick else 10)
        memory = psutil.Process(process.pid).memory_info().rss
    finally:
        process.terminate()
        process.wait(30)
    return [Figure("agent's memory", memory / 1e6, "MB", at_most=60)]


def _command(options: Options, *arguments: str) -> None:
    where = ("--data-dir", str(options.folder / "data"))
    subprocess.run(
        [sys.executable, "-m", "heliometer", *arguments, *where],
        input=PASSWORD, text=True, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
