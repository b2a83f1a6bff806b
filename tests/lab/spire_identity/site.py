"""A real SPIRE server and agent on this machine, by a join token and the unix attestor."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from lab.tools.build import tool
from tests import waiting
from tests.engine.samples import client_tls

eventually = partial(waiting.eventually, patience=60.0, pause=0.1)

NODE = "spiffe://hanzo.ai/lab/node"
_SERVER = """\
server {{
  bind_address = "127.0.0.1"
  bind_port = "{port}"
  trust_domain = "hanzo.ai"
  data_dir = "{folder}/server"
  socket_path = "{folder}/server.sock"
  log_level = "DEBUG"
  ca_key_type = "ec-p256"
  ca_ttl = "24h"
}}
plugins {{
  DataStore "sql" {{
    plugin_data {{
      database_type = "postgres"
      connection_string = "{database}"
    }}
  }}
  KeyManager "memory" {{ plugin_data {{}} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
}}
"""
_AGENT = """\
agent {{
  server_address = "127.0.0.1"
  server_port = "{port}"
  trust_domain = "hanzo.ai"
  trust_bundle_path = "{folder}/bundle.pem"
  data_dir = "{folder}/agent"
  socket_path = "{folder}/agent.sock"
  log_level = "DEBUG"
}}
plugins {{
  KeyManager "disk" {{ plugin_data {{ directory = "{folder}/agent" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"""


@dataclass
class Spire:
    """A server, and an agent that can be stopped. Every process of this user is a workload."""

    folder: Path
    token: str = ""
    _agent: subprocess.Popen[bytes] | None = None
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def socket(self) -> Path:
        """The Workload API's."""
        return self.folder / "agent.sock"

    def ask(self, *arguments: str) -> str:
        """The server's own command line."""
        command = [str(tool("spire-server")), *arguments]
        line = [*command, "-socketPath", str(self.folder / "server.sock")]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout

    def register(self, spiffe: str, seconds: int) -> str:
        """Register this user's processes; the entry's ID."""
        made = self.ask(
            *("entry", "create", "-parentID", NODE, "-spiffeID", spiffe),
            *("-selector", f"unix:uid:{os.getuid()}", "-x509SVIDTTL", str(seconds)),
            *("-dns", "evaluator", "-output", "json"),
        )
        return str(json.loads(made)["results"][0]["entry"]["id"])

    def start_server(self, configuration: str) -> None:
        self._start("spire-server", configuration)
        eventually(lambda: "Server is healthy" in self._said_health())
        (self.folder / "bundle.pem").write_text(self.ask("bundle", "show"))
        made = self.ask("token", "generate", "-spiffeID", NODE)
        found = re.search(r"Token: (\S+)", made)
        assert found, made
        self.token = found[1]

    def start_agent(self) -> None:
        """Start it: by the token the first time, by its own SVID later."""
        self._agent = self._start("spire-agent", "agent.conf", "-joinToken", self.token)
        eventually(self.socket.exists)

    def stop_agent(self) -> None:
        assert self._agent is not None
        self._agent.terminate()
        self._agent.wait(20)

    def stop(self) -> None:
        for process in reversed(self._running):
            process.kill()
            process.wait()

    def _said_health(self) -> str:
        try:
            return self.ask("healthcheck")
        except subprocess.CalledProcessError:
            return ""

    def _start(self, name: str, configuration: str, *others: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(tool(name)), "run", "-config", str(self.folder / configuration), *others],
                stdout=log,
                stderr=log,
            )
        self._running.append(process)
        return process


class Minted:
    """SVIDs of that server's CA, as ``tests.engine.samples.Authority`` has them of its own."""

    def __init__(self, spire: Spire) -> None:
        self._spire = spire

    @property
    def bundle(self) -> bytes:
        return self._spire.ask("bundle", "show").encode()

    def issue(self, spiffe: str) -> tuple[bytes, bytes]:
        """Key and certificate, PEM."""
        with tempfile.TemporaryDirectory() as name:
            self._spire.ask("x509", "mint", "-spiffeID", spiffe, "-write", name)
            return (Path(name) / "key.pem").read_bytes(), (Path(name) / "svid.pem").read_bytes()

    def client(self, spiffe: str | None) -> ssl.SSLContext:
        """TLS of a client that trusts this CA, with an SVID or without."""
        return client_tls(self.bundle, self.issue(spiffe) if spiffe is not None else None)


@contextmanager
def spire(folder: Path, postgres: str) -> Iterator[Spire]:
    """A server with a node that may join; the agent is not started."""
    made = Spire(folder)
    with _database(postgres) as database, socket.create_server(("127.0.0.1", 0)) as found:
        values = {"folder": folder, "port": found.getsockname()[1], "database": database}
        (folder / "server.conf").write_text(_SERVER.format(**values))
        (folder / "agent.conf").write_text(_AGENT.format(**values))
        found.close()
        try:
            made.start_server("server.conf")
            yield made
        finally:
            made.stop()


@contextmanager
def _database(postgres: str) -> Iterator[str]:
    name = f"spire_{uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        parts = conninfo_to_dict(postgres) | {"dbname": name, "sslmode": "disable"}
        kept = ("host", "port", "user", "password", "dbname", "sslmode")
        yield " ".join(f"{key}={parts[key]}" for key in kept if parts.get(key))
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
