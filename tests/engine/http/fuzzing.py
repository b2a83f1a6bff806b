"""Schemathesis, told by the API's own description what to send it."""

import re
import subprocess
import sys
from pathlib import Path

OPERATIONS = 9
_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


def fuzz(url: str, folder: Path, seconds: int, seed: int = 1) -> int:
    """Fuzz the API at an address for so long; how many requests. Asserts that none made it fail.

    What Schemathesis writes goes into ``folder``.
    """
    program = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            program,
            *("run", f"{url}/openapi.json", "--no-color", f"--max-time={seconds}"),
            *(f"--checks={','.join(_CHECKS)}", f"--seed={seed}", "--request-timeout=30"),
            *("--suppress-health-check=all", "--continue-on-failure"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds * 3 + 60,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    tested = re.search(r"Tested: (\d+)\n", done.stdout)
    cases = re.search(r"(\d+) generated, (\d+) passed\n", done.stdout)
    assert tested, done.stdout
    assert cases, done.stdout
    assert (int(tested[1]), cases[1]) == (OPERATIONS, cases[2])
    return int(cases[1])
