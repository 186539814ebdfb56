"""A real Keystone on SQLite in a folder: made the first time, then served on a loopback port.

    PYTHON serve.py FOLDER PORT PASSWORD

PYTHON is that of an environment with requirements.lock. Prints ``ready`` when it serves. The user
``admin`` of project ``admin`` has the password. Nothing is cached in it, so that what is revoked
is so at once.
"""

import getpass
import grp
import os
import subprocess
import sys
from pathlib import Path

CONFIG = """\
[DEFAULT]
log_file = {folder}/keystone.log
[database]
connection = sqlite:///{folder}/keystone.sqlite
[fernet_tokens]
key_repository = {folder}/keys
[fernet_receipts]
key_repository = {folder}/keys
[credential]
key_repository = {folder}/credential-keys
[cache]
enabled = false
[oslo_policy]
policy_file = {folder}/policy.yaml
[identity]
# Hashing takes no time that tests would wait for.
password_hash_rounds = 4
"""


def make(folder: Path, port: int, password: str) -> None:
    """Set up the database, the keys and the first user."""
    owner = ["--keystone-user", getpass.getuser(), "--keystone-group", grp.getgrgid(os.getgid())[0]]
    for keys in ("keys", "credential-keys"):
        (folder / keys).mkdir(mode=0o700)
    (folder / "policy.yaml").touch()
    url = f"http://127.0.0.1:{port}/v3"
    for command in (
        ["db_sync"],
        ["fernet_setup", *owner],
        ["credential_setup", *owner],
        ["bootstrap", "--bootstrap-password", password, "--bootstrap-public-url", url],
    ):
        subprocess.run(
            [str(Path(sys.executable).with_name("keystone-manage")),
             "--config-file", str(folder / "keystone.conf"), *command],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


def main() -> None:
    """Make it if need be, and serve it until it is ended."""
    folder, port, password = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    del sys.argv[1:]  # Keystone would read them, too.
    # Each time: the folder may be a copy of another one's.
    (folder / "keystone.conf").write_text(CONFIG.format(folder=folder))
    if not (folder / "made").exists():
        make(folder, port, password)
        (folder / "made").touch()
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = str(folder / "keystone.conf")
    from keystone.wsgi.api import application  # type: ignore[import-not-found,unused-ignore]
    from waitress.server import create_server  # type: ignore[import-untyped,unused-ignore]

    server = create_server(application, host="127.0.0.1", port=port, threads=8)
    print("ready", flush=True)
    server.run()


if __name__ == "__main__":
    main()
