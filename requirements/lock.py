"""Write the locked requirements: one file per Python version, every wheel pinned by its SHA-256.

Run as ``make lock``. The resolver is uv, which resolves for a Python that need not be installed; installing
needs pip alone. The hashes are those of all the wheels of a release, so one file serves Linux on
x86-64 and Arm and macOS on Arm (Ray has no wheel for Macs with Intel processors).
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

PYTHONS = ("3.11", "3.12", "3.13")
GROUPS = ("test", "check")
HEADER = "# Written by `make lock` from pyproject.toml for Python {python}. Do not edit.\n"
HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent / "pyproject.toml"


def lock(python: str, upgrade: bool) -> Path:
    """Resolve the runtime, the groups and the build backend for one Python version.

    Parameters
    ----------
    python
        The version, such as ``"3.12"``.
    upgrade
        Whether to take the newest releases. Otherwise versions already locked stay.
    """
    path = HERE / f"py{python.replace('.', '')}.txt"
    build_backend = tomllib.loads(PROJECT.read_text())["build-system"]["requires"]
    command = ["uv", "pip", "compile", PROJECT.name, "-", f"--output-file={path.relative_to(PROJECT.parent)}"]
    command += [f"--extra={group}" for group in GROUPS]
    command += [f"--python-version={python}", "--python-platform=linux", "--no-python-downloads"]
    command += ["--generate-hashes", "--only-binary=:all:", "--no-header", "--no-annotate", "--quiet"]
    command += ["--no-config", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["--upgrade"] if upgrade else []
    # Settings of the machine must not reach the lock: no other index, no local folder of wheels.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    subprocess.run(command, input="\n".join(build_backend), text=True, cwd=PROJECT.parent, env=environment, check=True)
    path.write_text(HEADER.format(python=python) + path.read_text())
    return path


def main() -> None:
    """Write the lock of every Python version; ``--upgrade`` takes the newest releases."""
    for python in PYTHONS:
        print(lock(python, upgrade="--upgrade" in sys.argv[1:]))


if __name__ == "__main__":
    main()
