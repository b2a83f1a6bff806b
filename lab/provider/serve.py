"""A port that the engine attaches to, for as long as a program runs.

A process of its own serves it, as the official provider is one: in the program's process both would
wait for one interpreter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

import grpc
from pulumi.runtime.proto.provider_pb2_grpc import add_ResourceProviderServicer_to_server

from lab.cluster.model import LabError
from lab.provider.cluster import Warned
from lab.provider.protocol import Desk, Provider

_ROOT = Path(__file__).parents[2]
# The engine asks for as many objects at once as it has threads: four for each core.
_THREADS = 32
# A state may hold large ConfigMaps; the engine's own limit is 400 MB.
_MESSAGE = 400 << 20


@dataclass(frozen=True, slots=True)
class Serving:
    """A provider that is being served."""

    port: int
    _warnings: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """What the engine has to know, or it would look for the official plugin."""
        return {
            "PULUMI_DEBUG_PROVIDERS": f"kubernetes:{self.port}",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }

    @property
    def warned(self) -> list[Warned]:
        """What API servers warned of, so far."""
        lines = self._warnings.read_text(encoding="utf-8").splitlines()
        return [Warned(**json.loads(line)) for line in lines]


@contextmanager
def serving(*, strict: bool = False) -> Iterator[Serving]:
    """Serve the provider on a loopback port; with ``strict`` it refuses what is warned of.

    Raises:
        LabError: if it does not start; it has said why on standard error.
    """
    with tempfile.TemporaryDirectory(prefix="zt-provider-") as folder:
        warnings = Path(folder) / "warnings"
        warnings.touch()
        asked = json.dumps({"warnings": str(warnings), "strict": strict})
        # It ends with its standard input, so also if this process is killed.
        with subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "lab.provider", asked],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            start_new_session=True,  # an interrupt is ours, and comes to it as our end
        ) as process:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            port = process.stdout.readline()
            if not port:
                raise LabError("the stand-in for the Kubernetes provider does not start")
            yield Serving(int(port), warnings)


def serve(ready: BinaryIO, ended: BinaryIO, warnings: Path, *, strict: bool) -> None:
    """Serve until ``ended`` ends. The port goes to ``ready``, warnings to a file, a line each."""
    with warnings.open("a", encoding="utf-8", buffering=1) as file:
        desk = Desk(strict=strict, warn=lambda found: _write(file, found))
        options = [
            ("grpc.max_receive_message_length", _MESSAGE),
            ("grpc.max_send_message_length", _MESSAGE),
        ]
        server = grpc.server(ThreadPoolExecutor(_THREADS), options=options)
        add_ResourceProviderServicer_to_server(Provider(desk), server)
        ready.write(b"%d\n" % server.add_insecure_port("127.0.0.1:0"))
        server.start()
        ready.flush()
        ended.read()
        server.stop(grace=None).wait()
        desk.close()


def _write(file: TextIO, found: Warned) -> None:
    file.write(json.dumps(asdict(found)) + "\n")
