"""VictoriaMetrics, for comparison (Debian: ``apt-get install victoria-metrics``)."""

import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]

from benchmarks.server import Client, request

PROGRAM = shutil.which("victoria-metrics")


class Victoria:
    """The server on a loopback port of its own, as a context."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        assert PROGRAM is not None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address: tuple[str, int] = probe.getsockname()
        with (self._folder.parent / "victoria.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    PROGRAM,
                    f"-httpListenAddr={self.address[0]}:{self.address[1]}",
                    f"-storageDataPath={self._folder}",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def cpu_seconds(self) -> float:
        """Processor time that it used so far."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def rows(self) -> int:
        """Points that it says it took through the import."""
        # Not through our Client: this answer comes in chunks.
        host, port = self.address
        with urllib.request.urlopen(f"http://{host}:{port}/metrics") as answer:
            text = answer.read()
        found = re.search(rb'vm_rows_inserted_total\{type="vmimport"\} (\d+)', text)
        if found is None:
            raise RuntimeError("victoria-metrics does not say how many points it took")
        return int(found[1])

    def _wait_until_ready(self) -> None:
        for _ in range(100):
            if self._process.poll() is not None:
                break
            try:
                with Client(self.address) as client:
                    if client.send(request("GET", "/health")).status == 200:
                        return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("victoria-metrics did not start")
