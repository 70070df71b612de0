"""`python3 scripts/lock.py` -> constraints.txt: one exact version of all that pyproject.toml asks for, for any Python.

uv resolves, out of a virtual environment that is thrown away. Versions that still fit stay; `--upgrade` takes the
newest of all, `--upgrade-package NAME` of one. uv does not read pip's settings: UV_DEFAULT_INDEX names another index.
"""

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]

COMMAND = "python3 scripts/lock.py"
"""What the header of constraints.txt names, in place of a command line with the paths of one machine."""


def lock(*options: str) -> None:
    """Write constraints.txt."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    oldest = project["project"]["requires-python"].removeprefix(">=")
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        programs = Path(folder) / "bin"
        subprocess.run([programs / "pip", "install", "--quiet", "uv"], check=True)
        compiling = [programs / "uv", "pip", "compile", "--quiet", "--universal", "--python-version", oldest]
        compiling += ["--all-extras", "--annotation-style", "line", "--custom-compile-command", COMMAND]
        compiling += ["--output-file", "constraints.txt", *options, "pyproject.toml", "-"]
        # uv reads the extras, but not what builds the package.
        building = "\n".join(project["build-system"]["requires"])
        subprocess.run(compiling, cwd=ROOT, input=building, text=True, check=True)


if __name__ == "__main__":
    lock(*sys.argv[1:])
