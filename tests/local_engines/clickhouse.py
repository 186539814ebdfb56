"""ClickHouse."""

import os
import secrets
import shutil
from pathlib import Path

from local_engines.engine import USER, Engine, EngineError, fetch


class ClickHouse(Engine):
    """One server with small caches, Debian's 18.16 or a current one."""

    name = "clickhouse"
    ports = ("clickhouse", "clickhouse-native")
    packages = ("clickhouse-server", "clickhouse-client")

    def program(self) -> str | None:
        return shutil.which("clickhouse-server") or shutil.which("clickhouse")

    def _configuration(self) -> Path:
        return self.folder.resolve() / "config.xml"

    def matches(self, command: list[str]) -> bool:
        return (
            bool(command)
            and os.path.basename(command[0]).startswith("clickhouse")
            and f"--config-file={self._configuration()}" in command
        )

    def environment(self) -> dict[str, str]:
        # Else newer ones start a second process that watches the first.
        return {**super().environment(), "CLICKHOUSE_WATCHDOG_ENABLE": "0"}

    def prepare(self) -> None:
        folder = self.folder.resolve()
        data = folder / "data"
        data.mkdir(exist_ok=True)
        # The memory settings are for a machine that runs tests beside it. What a version does not
        # know in the configuration it passes over.
        configuration = f"""<?xml version="1.0"?>
<yandex>
  <logger><level>warning</level><console>1</console></logger>
  <listen_host>127.0.0.1</listen_host>
  <http_port>{self.port["clickhouse"]}</http_port>
  <tcp_port>{self.port["clickhouse-native"]}</tcp_port>
  <path>{data}/</path>
  <tmp_path>{data}/tmp/</tmp_path>
  <user_files_path>{data}/user_files/</user_files_path>
  <format_schema_path>{data}/format_schemas/</format_schema_path>
  <users_config>users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <timezone>UTC</timezone>
  <mlock_executable>false</mlock_executable>
  <max_connections>512</max_connections>
  <max_concurrent_queries>100</max_concurrent_queries>
  <keep_alive_timeout>30</keep_alive_timeout>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <mark_cache_size>268435456</mark_cache_size>
  <max_server_memory_usage>4294967296</max_server_memory_usage>
  <remote_servers>
    <heliometer>
      <shard>
        <internal_replication>true</internal_replication>
        <replica>
          <host>127.0.0.1</host>
          <port>{self.port["clickhouse-native"]}</port>
          <user>{USER}</user>
          <password>{self.password}</password>
        </replica>
      </shard>
    </heliometer>
  </remote_servers>
</yandex>
"""
        users = f"""<?xml version="1.0"?>
<yandex>
  <profiles>
    <default>
      <max_memory_usage>2000000000</max_memory_usage>
      <use_uncompressed_cache>0</use_uncompressed_cache>
      <background_pool_size>4</background_pool_size>
      <load_balancing>in_order</load_balancing>
    </default>
  </profiles>
  <users>
    <{USER}>
      <password>{self.password}</password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
    </{USER}>
    <default>
      <password>{secrets.token_hex(16)}</password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
    </default>
  </users>
  <quotas><default></default></quotas>
</yandex>
"""
        for path, text in ((folder / "config.xml", configuration), (folder / "users.xml", users)):
            path.touch(mode=0o600)
            path.write_text(text)

    def command(self) -> list[str]:
        program = self.program()
        assert program is not None
        server = [] if os.path.basename(program).endswith("-server") else ["server"]
        return [program, *server, f"--config-file={self._configuration()}"]

    def query(self, text: str) -> str:
        """Ask over HTTP. Raises EngineError."""
        where = f"http://127.0.0.1:{self.port['clickhouse']}/"
        try:
            return fetch(where, USER, self.password, text.encode()).strip()
        except (OSError, ValueError) as error:
            raise EngineError(f"does not answer: {error}") from None

    def version(self) -> str:
        return self.query("SELECT version()")

    def furnish(self) -> None:
        self.query(f"CREATE DATABASE IF NOT EXISTS {USER}")

    def urls(self) -> dict[str, str]:
        where = f"127.0.0.1:{self.port['clickhouse']}"
        return {"clickhouse": f"clickhouse://{USER}:{self.password}@{where}/default"}

    def settings(self) -> list[tuple[str, str, str]]:
        url = self.urls()["clickhouse"].rpartition("/")[0]
        return [("metrics", "url", f"{url}/{USER}")]
