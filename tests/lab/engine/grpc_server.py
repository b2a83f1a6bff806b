"""An evaluator's gRPC port by itself: `python -m tests.lab.engine.grpc_server [SVID FOLDER]`.

Prints its port, and serves until it is killed.
"""

import asyncio
import resource
import socket
import sys
from pathlib import Path

import uvloop

from engine.envoy.http2 import serve
from engine.tls import SvidFiles
from tests.engine.samples import Desk


async def main(folders: list[str]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    svid = SvidFiles(Path(folders[0])) if folders else None
    async with serve(listening, Desk().decider, svid):
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
