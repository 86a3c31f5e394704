"""The black-box suite, which knows nothing of this engine, on this engine."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.timeout(900)
def test_conformance(engine_host: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "conformance", "--host", engine_host, "--allow-unsupported"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=880, check=False)
    with capsys.disabled():
        print("\n" + result.stdout[-2500:])
    assert result.returncode == 0, result.stdout + result.stderr
