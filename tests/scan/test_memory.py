"""Keys that a process holds in its memory alone."""

from __future__ import annotations

import subprocess
import sys

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lab.scan.memory import keys_in

# It says when it has all that it was given.
_HOLDER = """
import sys
held = [sys.stdin.buffer.read(int(size)) for size in sys.argv[1:]]
print("held", flush=True)
sys.stdin.buffer.read()
"""


def test_a_key_in_memory_is_found_and_known_by_its_number() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    formats = (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)
    texts = [key.private_bytes(Encoding.PEM, one, NoEncryption()) for one in formats]
    broken = b"-----BEGIN PRIVATE KEY-----\n" + b"A" * 64 + b"\n-----END PRIVATE KEY-----\n"
    given = (*texts, broken)
    command = (sys.executable, "-c", _HOLDER, *(str(len(text)) for text in given))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin
        assert holder.stdout
        holder.stdin.write(b"".join(given))
        holder.stdin.flush()
        assert holder.stdout.readline() == b"held\n"
        found = {*keys_in(holder.pid)}
        holder.stdin.close()
    number = key.private_numbers().private_value.to_bytes(32)
    assert found == {number}
    # It is in whatever form the key is written.
    for one in formats:
        assert number in key.private_bytes(Encoding.DER, one, NoEncryption())
