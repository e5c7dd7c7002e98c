"""Check the locked requirements: complete, pinned, hashed, and without known vulnerabilities as far as can be asked.

Run as ``make check``. The first part needs no network and fails on any gap. The second asks an advisory service by
pip-audit about every locked release; it fails on a vulnerability, and where no service answers it says plainly that
the audit did not run.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent / "pyproject.toml"
SERVICES = ("pypi", "osv")  # either knows every advisory; the first that answers is asked
LONGEST_S = 180


def normal(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(text: str) -> tuple[dict[str, str], list[str]]:
    """Version of every requirement of a lock, and what is wrong with it."""
    versions: dict[str, str] = {}
    wrong = []
    for entry in re.sub(r"\\\n", " ", text).splitlines():
        line = entry.partition("#")[0].strip()
        if not line:
            continue
        requirement, *options = line.split()
        found = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([A-Za-z0-9.!+_-]+)", requirement)
        if found is None:
            wrong.append(f"{requirement}: not pinned by ==")
            continue
        versions[normal(found[1])] = found[2]
        hashes = [option for option in options if re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", option)]
        if not hashes:
            wrong.append(f"{requirement}: no SHA-256")
    return versions, wrong


def direct(project: dict) -> list[str]:
    """Names of the distributions that the project itself asks for."""
    listed = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for group in ("test", "check"):
        listed += project["project"]["optional-dependencies"][group]
    return [normal(re.match(r"[A-Za-z0-9._-]+", one)[0]) for one in listed]


def gaps(locks: list[Path], names: list[str]) -> list[str]:
    """What is wrong with the locks."""
    wrong = [] if locks else ["there is no lock: make lock"]
    for path in locks:
        versions, problems = locked(path.read_text(encoding="utf-8"))
        wrong += [f"{path.name}: {problem}" for problem in problems]
        wrong += [f"{path.name}: {name} of pyproject.toml is not locked" for name in names if name not in versions]
    return wrong


def asked(tool: str, lock: Path, service: str) -> tuple[list[str], int, str]:
    """Vulnerabilities of a lock, the number of releases that the service knew, and why it did not know the others."""
    command = [tool, "-m", "pip_audit", "--format=json", "--progress-spinner=off", "--disable-pip", "--no-deps"]
    command += ["--require-hashes", f"--vulnerability-service={service}", "--timeout=10", f"--requirement={lock}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST_S)
        dependencies = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return [], 0, f"no answer within {LONGEST_S} s"
    except (json.JSONDecodeError, KeyError):
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return [], 0, last[:120]
    known = [one for one in dependencies if "skip_reason" not in one]
    reasons = [one["skip_reason"] for one in dependencies if "skip_reason" in one]
    found = [
        f"{lock.name}: {one['name']} {one['version']}: {hole['id']}, fixed in {', '.join(hole['fix_versions']) or '?'}"
        for one in known
        for hole in one["vulns"]
    ]
    return found, len(known), f"{len(reasons)} unknown: {reasons[0]}" if reasons else ""


def audit(tool: str, locks: list[Path]) -> tuple[list[str], str]:
    """Vulnerabilities of all locks, and a line that says how far they could be looked for."""
    silent = []
    for service in SERVICES:
        answers = []
        for lock in locks:
            answers.append(asked(tool, lock, service))
            if not answers[-1][1]:
                break
        if all(known for _, known, _ in answers):
            found = [hole for holes, _, _ in answers for hole in holes]
            rest = "".join(f"; {reason}" for _, _, reason in answers if reason)
            looked_at = sum(known for _, known, _ in answers)
            return found, f"Audit by {service}: {len(found)} vulnerabilities in {looked_at} locked releases{rest}."
        silent.append(f"{service}: {answers[-1][2]}")
    return [], "THE DEPENDENCY AUDIT DID NOT RUN, so nothing is known of vulnerabilities. " + "; ".join(silent)


def main() -> int:
    """Check the locks, then ask about them with the Python that has pip-audit, given as the only argument."""
    locks = sorted(HERE.glob("py3*.txt"))
    wrong = gaps(locks, direct(tomllib.loads(PROJECT.read_text(encoding="utf-8"))))
    if wrong:
        print("\n".join(wrong))
        return 1
    print(f"Locked requirements: every direct one is there, every one is pinned and hashed ({len(locks)} locks).")
    found, said = audit(sys.argv[1] if len(sys.argv) > 1 else sys.executable, locks)
    print("\n".join([*found, said]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
