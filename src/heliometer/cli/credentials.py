"""Which server a client talks to, and as whom."""

from dataclasses import dataclass

DEFAULT_URL = "http://127.0.0.1:8779"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Empty text: not given."""

    url: str = ""
    auth_url: str = ""
    username: str = ""
    password: str = ""
    project: str = ""
    project_id: str = ""
    region: str = ""
    token: str = ""
    user_domain: str = "Default"
    project_domain: str = "Default"
    cacert: str = ""
    insecure: bool = False
