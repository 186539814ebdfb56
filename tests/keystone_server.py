"""A real Keystone for tests: started, filled, stopped, held up."""

import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-keystone" / "bin" / "python"
SERVE = ROOT / "tests" / "engines" / "keystone" / "serve.py"
PASSWORD = "keystone's own"
PROJECT_PASSWORD = "correct horse"


@dataclass
class RunningKeystone:
    """Keystone with a database of its own, on a port that it keeps."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[str] | None = None
    _http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30))
    _token: str = ""
    _roles: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Its v3 API."""
        return f"http://127.0.0.1:{self.port}/v3"

    def start(self) -> "RunningKeystone":
        """Start it, and wait until it serves."""
        assert PYTHON.exists(), f"{PYTHON.parents[1]} is missing: run scripts/test-engines"
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "stderr").open("a") as log:
            self.process = subprocess.Popen(
                [str(PYTHON), str(SERVE), str(self.folder), str(self.port), PASSWORD],
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "ready\n", (self.folder / "stderr").read_text()[-3000:]
        return self

    def send(self, number: int) -> None:
        """A signal: SIGSTOP makes it slow beyond measure."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """End it; what it knows stays."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None

    def sign_in(
        self, user: str, password: str = PROJECT_PASSWORD, *, scope: Any = None,
        domain: str = "Default",
    ) -> str:  # fmt: skip
        """A token; ``scope`` is a project's name in the user's domain, or Keystone's own."""
        if isinstance(scope, str) and scope != "unscoped":
            scope = {"project": {"name": scope, "domain": {"name": domain}}}
        who = {"name": user, "domain": {"name": domain}, "password": password}
        auth: dict[str, Any] = {
            "identity": {"methods": ["password"], "password": {"user": who}},
            "scope": scope or "unscoped",
        }
        reply = self._http.post(f"{self.url}/auth/tokens", json={"auth": auth})
        assert reply.status_code == 201, reply.text
        token: str = reply.headers["X-Subject-Token"]
        return token

    def call(self, method: str, path: str, document: Any = None) -> Any:
        """Ask as its administrator."""
        self._token = self._token or self.sign_in("admin", PASSWORD, scope="admin")
        headers = {"X-Auth-Token": self._token}
        reply = self._http.request(method, self.url + path, json=document, headers=headers)
        assert reply.is_success, f"{method} {path}: {reply.text}"
        return reply.json() if reply.content else None

    def make(self, kind: str, name: str, **more: Any) -> str:
        """Make a project, user, role or domain; return its id."""
        made = self.call("POST", f"/{kind}s", {kind: {"name": name, **more}})
        return str(made[kind]["id"])

    def role(self, name: str) -> str:
        """A role's id."""
        if name not in self._roles:
            listed = self.call("GET", "/roles")["roles"]
            self._roles = {role["name"]: role["id"] for role in listed}
        return self._roles[name]

    def user(self, name: str, *grants: tuple[str, str], domain: str = "default") -> str:
        """Make a user with roles in projects, by their ids; return its id."""
        user = self.make("user", name, password=PROJECT_PASSWORD, domain_id=domain)
        for project, role in grants:
            self.grant(user, project, role)
        return user

    def grant(self, user: str, project: str, role: str, method: str = "PUT") -> None:
        """Give a user a role in a project, or take it."""
        self.call(method, f"/projects/{project}/users/{user}/roles/{self.role(role)}")

    def fill(self) -> dict[str, str]:
        """What docs/identity.md tells operators to make; return the ids."""
        service = self.make("project", "service")
        user = self.user("heliometer", (service, "service"))
        self.call("PUT", f"/system/users/{user}/roles/{self.role('reader')}")
        return {"service": service, "heliometer": user}

    def settings(self) -> dict[str, str]:
        """What makes Heliometer use it."""
        return {
            "HELIOMETER_COLLECTOR_ENABLED": "false",
            "HELIOMETER_IDENTITY_BACKEND": "keystone",
            "HELIOMETER_IDENTITY_KEYSTONE_URL": self.url,
            "HELIOMETER_IDENTITY_KEYSTONE_PASSWORD": PROJECT_PASSWORD,
        }
