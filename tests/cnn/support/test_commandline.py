"""How a program ends: with a sentence, whatever the terminal's encoding, the memory and the threads there are."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

IN_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_AS, ({0}, {0}))\n"


def run_main(body: str, before: str = "", **environment: str) -> tuple[int, str, str]:
    """Status, output and errors of a program whose main function has this body."""
    code = f"{before}from cnn.support.commandline import run\ndef main():\n    {body}\nrun(main)"
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=variables | environment, capture_output=True, check=False
    )
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


@pytest.mark.parametrize("environment", [IN_ASCII, IN_ASCII | {"PYTHONIOENCODING": "latin-1"}])
def test_other_encodings_than_utf_8_do_not_end_a_program(environment: dict[str, str]) -> None:
    body = "from cnn.support.errors import UserError; print(chr(0x732b)); raise UserError(chr(0x732b))"
    assert run_main(body, **environment) == (1, "\\u732b\n", "error: \\u732b\n")


def test_control_characters_are_not_printed() -> None:
    body = "from cnn.support.errors import UserError; raise UserError('a\\x1b[31m\\u202e.jpg\\nb\\r')"
    assert run_main(body) == (1, "", "error: a?[31m?.jpg\nb?\n")


def test_own_mistake_keeps_its_traceback() -> None:
    status, _, errors = run_main("raise RuntimeError('ours')")
    assert status == 1 and "Traceback" in errors and "RuntimeError: ours" in errors


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        ("import numpy; numpy.ones(10**9)", 10**9),
        ("from PIL import Image; kept = [Image.new('RGB', (20_000, 5_000), 'red') for _ in range(9)]", 10**9),
        (
            "from cnn.support.backend import mx; mx.nd.ones(1).wait_to_read(); "
            "import resource; resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9,) * 2); "
            "kept = [mx.nd.ones((1 << 20, 64)) for _ in range(64)]; mx.nd.waitall()",
            0,
        ),
        ("from cnn.support.backend import mx; mx.nd", 2 * 10**8),
    ],
    ids=["numpy", "pillow", "mxnet", "import"],
)
def test_lack_of_memory_is_said(body: str, limit: int) -> None:
    status, _, errors = run_main(body, LIMIT.format(limit) if limit else "")
    assert status == 1 and errors.startswith("error: There is not enough memory: ") and "Traceback" not in errors


@pytest.mark.parametrize("body", ["backend.choose_devices('auto')", "backend.mx.nd"])
def test_number_of_threads_that_is_none_is_refused(body: str) -> None:
    status, _, errors = run_main(f"from cnn.support import backend; {body}", OMP_NUM_THREADS="1.5")
    assert status == 1 and errors.startswith("error: OMP_NUM_THREADS '1.5': expected the number of threads")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("value", ["", " 2 "])
def test_number_of_threads_is_taken(value: str) -> None:
    body = "from cnn.support.backend import mx; print(mx.nd.ones(1).asscalar())"
    assert run_main(body, OMP_NUM_THREADS=value)[:2] == (0, "1.0\n")
