"""The evaluator: answers every access decision, and writes each to the audit trail first."""

import os

# gRPC reads it when it is imported. Its log has a form of its own, and a line for every handshake.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
