"""Small runs of every sort, whose reports are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from sweep.report import write_finished
from sweep.running import run_study
from sweep.study import load

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
_WORK = """
[[workloads]]
model = "llama-3-8b"
sequence = "8192 token"
batch = 128
"""
_LAYOUT = """
[layout]
tensor_parallel = [1, 2, 4, 8]
context_parallel = [1, 2]
virtual_stages = { max = 2 }
"""
_H20 = '[[designs]]\nlabel = "H20"\nsystem = "hgx-h20"\n'
_GB200 = """
[[designs]]
label = "GB200"
system = "gb200-nvl72"
change = { "tiers.nvlink.ranks_in_use" = 64 }
"""
STUDIES: Mapping[str, str] = {
    "every_row": f"""
question = "Which of two machines trains a small model faster?"
chips = [8, 64]
reference = "H20"
{_WORK}{_H20}{_GB200}{_LAYOUT}
[search]
rows = "all"
""",
    "unsure": f"""
question = "Is a rumoured machine faster?"
chips = [64]
{_WORK}number_format = ["bf16", "fp8"]
{_GB200}
[[designs]]
label = "910D"
system = "atlas-910d-supernode"
{_LAYOUT}
[uncertainty]
points = 16
layouts = 2
sensitivities = 3
""",
    "front": """
question = "What does speed for a user cost?"
phase = "decode"
chips = [64]
[[workloads]]
model = "llama-3-8b"
[traffic]
input_tokens = "1024 token"
output_tokens = "256 token"
[[designs]]
label = "H100"
system = "dgx-h100"
[[designs]]
label = "H20"
system = "hgx-h20"
[layout]
tensor_parallel = [1, 2, 4, 8]
context_parallel = 1
[search]
objective = "tokens_per_s_per_chip"
rows = "pareto"
pareto = ["tokens_per_s_per_chip", "tokens_per_s_per_user"]
""",
    "varied": f"""
question = "How much bandwidth, for which watts?"
chips = [8]
{_WORK}{_H20}{_GB200}{_LAYOUT}
[outer]
trials = 6
generation = 3
sampler = "tpe"
designs = ["H20"]
objectives = ["tokens_per_s", "power_w"]
variables = {{ chips = {{ low = 8, high = 64 }}, "chip.hbm_bandwidth" = {{ low = "3 TB/s", high = "6 TB/s" }} }}
""",
    "nothing": f"""
question = "Does a large model train on few chips within 4 kW?"
chips = [8, 16]
[[workloads]]
model = "llama-3.1-405b"
sequence = "8192 token"
batch = 128
{_H20}
[constraints]
power_w = "<= 4 kW"
{_LAYOUT}
""",
    "hostile": f"""
question = "Is {HOSTILE} shown as text?"
chips = [8]
reference = "{HOSTILE}"
{_WORK}{_H20.replace("H20", HOSTILE)}{_GB200}{_LAYOUT}
[search]
rows = "top:5"
""",
}


def made(name: str, folder: Path) -> Path:
    """The folder of one of the runs, with its report."""
    file = folder / f"{name}.toml"
    file.write_text(STUDIES[name])
    study = load(file)
    finished = run_study(study, folder / "runs", workers=0)
    write_finished(study, finished)
    return Path(finished.path)


class Runs(dict[str, Path]):
    """Folders of runs by name, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __missing__(self, name: str) -> Path:
        self[name] = made(name, self._folder)
        return self[name]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Runs by name."""
    return Runs(tmp_path_factory.mktemp("reports"))
