"""A stand-in for Pulumi's host of the Python language, which comes with the official CLI alone.

Run as ``pulumi-language-python``, it serves what the CLI asks of a language: it runs
``__main__.py`` of the folder that the CLI names, as the official one does.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from pulumi.automation._server import LanguageServer
from pulumi.runtime.proto import language_pb2_grpc, plugin_pb2

_PAUSE = 0.5


class Host(LanguageServer):
    """Pulumi's own server of inline programs, for programs in a folder."""

    def __init__(self, engine: str) -> None:
        super().__init__(lambda: None)
        self.engine = engine

    def Run(self, request: Any, context: Any) -> Any:  # noqa: N802, ANN401 - gRPC's
        folder = request.info.program_directory
        os.chdir(request.pwd)
        sys.path.insert(0, folder)
        self.program = lambda: _run(Path(folder, "__main__.py"))
        request.args[:] = [self.engine]
        return super().Run(request, context)  # type: ignore[no-untyped-call]

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802, ANN401 - gRPC's
        del request, context
        return plugin_pb2.PluginInfo(version="3.259.0")


def _run(program: Path) -> None:
    runpy.run_path(str(program), run_name="__main__")


def serve(engine: str) -> None:
    """Serve until the engine ends this process, or has ended; interrupts are its to handle."""
    parent = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(Host(engine), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    while os.getppid() == parent:
        server.wait_for_termination(_PAUSE)


if __name__ == "__main__":
    serve(sys.argv[-1])
