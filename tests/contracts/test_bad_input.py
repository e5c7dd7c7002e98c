"""Bad studies, catalogue entries, cases, config.json and command lines by the hundred: told, never a traceback.

Whatever is wrong, the answer is every problem with its file, key, rule, value and remedy, and exit code 2.
"""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.layout import Layout
from model.workload import Training
from sweep import catalogue
from sweep.answer import told
from sweep.cli import main
from sweep.designs import machine, software
from sweep.errors import InputError, Problem
from sweep.explanation import explanation_of
from sweep.hugging_face.record import imported
from sweep.study import load, parse
from sweep.toml_text import toml_text
from sweep.validation import predict, read_cases
from sweep.validation_answer import as_json
from tests.contracts.broken import broken, torn

ROOT = Path(__file__).resolve().parents[2]
SOME = settings(max_examples=100, deadline=None, derandomize=True, database=None,
                suppress_health_check=list(HealthCheck))  # fmt: skip
FEWER = settings(SOME, max_examples=40)
# Words by which a rule says itself what to write, where there is no remedy beside it.
SAYS_HOW = ("as in", "did you mean", "known:", "one of", "none of:", "expected", "must ", "needs", "give", "write",
            "true or false", "power of two")  # fmt: skip
NO_VALUE = ("missing", "unknown key", "needs", "given once", "not a number that")
TRAINING = {
    "question": "which?", "chips": [16], "seed": 1, "reference": "first", "corners": True, "prices": "us",
    "workloads": [{"model": "llama-3-8b", "sequence": "8192 token", "batch": "1 Mtoken", "number_format": ["bf16"]}],
    "designs": [{"label": "first", "system": "hgx-h20", "power_cap": "400 W", "change": {"chip.hbm_bytes": "96 GB"}},
                {"system": "dgx-h100", "stack": "megatron-2025", "chips": [8, 16], "operation": "careful-2026"}],
    "layout": {"tensor_parallel": [1, 2], "pipeline_parallel": {"max": 4}, "recompute": ["none", "norm+activation"],
               "zero_stage": [0, 1], "schedule": "1f1b", "sequence_parallel": True},
    "search": {"objective": "mfu", "rows": "top:5", "method": "both", "sampler": "tpe", "trials": 8,
               "baselines": ["tp=2,pp=2"]},
    "constraints": {"power_w": "<= 1 MW", "mfu": ">= 0.1"},
    "uncertainty": {"points": 64, "quantities": ["mfu"], "layouts": 3},
}  # fmt: skip
OUTER = {
    "question": "how much?",
    "workloads": [{"model": "llama-3-8b", "sequence": "8192 token", "batch": 64, "expert_imbalance": 1.1}],
    "designs": [{"label": "a", "system": "hgx-h20"}],
    "outer": {"trials": 4, "sampler": "tpe", "objectives": ["mfu", "power_w"], "designs": ["a"],
              "variables": {"chips": {"low": 8, "high": 64, "log": True}, "chip.hbm_bandwidth": ["3 TB/s", "4 TB/s"]},
              "baselines": [{"chips": 8, "chip.hbm_bandwidth": "3 TB/s"}]},
}  # fmt: skip
SERVING = {
    "question": "how?", "phase": "serving", "chips": [16],
    "workloads": [{"model": "deepseek-v2"}],
    "designs": [{"system": "dgx-h200", "engine": "vllm-2025", "number_format": "fp8", "kv_format": "bf16",
                 "layout": {"expert_parallel": 8}}],
    "traffic": {"input_tokens": "2048 token", "output_tokens": "512 token", "load": "5000 tokens/s", "variation": 0.5},
    "targets": {"ttft": "<= 1 s", "ttft_p99": "<= 9 s", "tpot": ["<= 25 ms", "<= 50 ms"], "tpot_p99": "<= 90 ms"},
    "serving": {"weight_format": "fp8", "expert_format": "fp8", "attention_format": "bf16", "attention_core": "bf16",
                "balance": "power_law", "balance_exponent": 0.2, "acceptance": 0.6, "draft_tokens": 1,
                "redundant_experts": [0, 8]},
    "layout": {"deployment": ["colocated", "disaggregated"], "batch": [1, 8], "chunk": ["4096 token", "engine"]},
    "search": {"objective": "chips_used"}, "constraints": {"tpot_s": "<= 40 ms"},
}  # fmt: skip
ENTRIES: list[tuple[catalogue.Kind, str]] = [
    ("chips", "h20"), ("systems", "hgx-h20"), ("models", "deepseek-v3"), ("models", "llama-3-8b"),
    ("stacks", "megatron-2025"), ("calibrations", "h20"), ("prices", "us"), ("operations", "careful-2026"),
    ("engines", "vllm-2025"), ("fabrics", "infiniband-ndr"), ("processes", "tsmc-n5"), ("memories", "hbm3"),
]  # fmt: skip
CONFIG = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128,
    "num_key_value_heads": 128, "intermediate_size": 18432, "vocab_size": 129280, "n_routed_experts": 256,
    "num_experts_per_tok": 8, "moe_intermediate_size": 2048, "n_shared_experts": 1, "first_k_dense_replace": 3,
    "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "num_nextn_predict_layers": 1, "rope_scaling": {"factor": 40}, "quantization_config": {"quant_method": "fp8"},
    "torch_dtype": "bfloat16", "architectures": ["DeepseekV3ForCausalLM"],
}  # fmt: skip
NESTED = {
    "model_type": "gemma3", "vision_config": {"hidden_size": 1152},
    "text_config": {"model_type": "gemma3_text", "hidden_size": 3840, "num_hidden_layers": 48, "head_dim": 256,
                    "num_attention_heads": 16, "num_key_value_heads": 8, "intermediate_size": 15360,
                    "vocab_size": 262208, "sliding_window": 1024, "sliding_window_pattern": 6},
}  # fmt: skip


def is_said(problem: Problem, file: str) -> None:
    """A problem names its file, its key, what holds, what was there, and what to write."""
    sentence = problem.sentence()
    whole = problem.rule.startswith(("not TOML", "not JSON", "is not JSON", "cannot be read", "must hold an object"))
    assert problem.file, sentence
    assert file in problem.file, problem
    assert problem.rule, problem
    assert problem.key or whole, problem
    absent = any(
        word in problem.rule for word in ("missing", "unknown key", "needs", "given once", "not a number that")
    )
    assert problem.value is not None or absent or whole or re.search(r"['\[{\d]|inf|nan|True|False", problem.rule), (
        problem
    )
    assert problem.remedy or whole or any(word in problem.rule for word in SAYS_HOW), problem


def refused(read: Callable[[], object], file: str) -> bool:
    """Whether an input is refused, and then whether everything is said; nothing but InputError may leave `read`."""
    try:
        read()
    except InputError as failure:
        assert failure.problems
        assert str(failure)
        for problem in failure.problems:
            is_said(problem, file)
        return True
    return False


def text_of(raw: dict[str, Any]) -> str:
    """A study or an entry as a file."""
    return toml_text(raw)


@pytest.mark.parametrize("good", [TRAINING, OUTER, SERVING], ids=["training", "outer", "serving"])
def test_the_studies_are_good_until_they_are_broken(good: dict[str, Any]) -> None:
    """What is broken below is broken by what is done to it."""
    assert parse(text_of(good)).question


@pytest.mark.parametrize("good", [TRAINING, OUTER, SERVING], ids=["training", "outer", "serving"])
def test_broken_studies_are_told(good: dict[str, Any]) -> None:
    """Over forty of a hundred are refused, the others are still studies."""
    seen: Counter[bool] = Counter()

    @SOME
    @given(broken(good))
    def one(raw: dict[str, Any]) -> None:
        seen[refused(lambda: parse(text_of(raw), "study.toml"), "study.toml")] += 1

    one()
    assert seen[True] > 60, seen


def test_torn_files_are_told(tmp_path: Path) -> None:
    """Bytes that are no TOML, of a study and of a catalogue entry."""
    seen: Counter[bool] = Counter()
    file = tmp_path / "study.toml"

    @SOME
    @given(torn(text_of(TRAINING)))
    def one(raw: bytes) -> None:
        file.write_bytes(raw)
        seen[refused(lambda: load(file), "study.toml")] += 1

    one()
    assert seen[True] > 60, seen


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    """Editors of some systems begin a file with one."""
    file = tmp_path / "study.toml"
    file.write_bytes(b"\xef\xbb\xbf" + text_of(TRAINING).encode())
    assert load(file).question == "which?"


@pytest.mark.parametrize(("kind", "name"), ENTRIES, ids=lambda value: value)
def test_broken_entries_are_told(kind: catalogue.Kind, name: str, tmp_path: Path) -> None:
    """A study whose own folder of entries has a broken one names the file of the entry."""
    good = tomllib.loads(catalogue.entry(kind, name).text)
    numbers = itertools.count()
    seen: Counter[bool] = Counter()
    study: dict[str, Any] = {
             "question": "q", "catalogue": "mine", "chips": [8], "prices": "us", "operation": "careful-2026",
             "workloads": [{"model": "llama-3-8b", "sequence": "4096 token", "batch": 64}],
             "designs": [{"system": "hgx-h20", "stack": "megatron-2025"}]}  # fmt: skip
    if kind == "models":
        study["workloads"][0]["model"] = name

    @FEWER
    @given(broken(good, 2))
    def one(raw: dict[str, Any]) -> None:
        folder = tmp_path / f"{next(numbers)}"
        own = folder / "mine" / kind
        own.mkdir(parents=True)
        (own / f"{name}.toml").write_text(text_of(raw), encoding="utf-8")
        extra = folder / "mine"

        def read() -> None:
            catalogue.entry(kind, name, extra)
            checked = parse(text_of(study), "study.toml", beside=folder)
            design, work = checked.designs[0], checked.workloads[0]
            training = Training(catalogue.architecture(work.model, extra), 4096, "bf16")
            layout = Layout(tensor_parallel=2, data_parallel=4, global_batch=64)
            cost = explanation_of(machine(design), software(design), training, layout, 8, extra)
            json.dumps(told(cost.as_json()), allow_nan=False)

        seen[refused(read, ".toml")] += 1  # or the entry that leans on it

    one()
    assert seen[True] > 10, seen


@pytest.mark.parametrize("good", [CONFIG, NESTED], ids=["deepseek", "gemma"])
def test_broken_configurations_are_told(good: dict[str, Any], tmp_path: Path) -> None:
    """A config.json is imported, or every key that cannot be is named."""
    seen: Counter[bool] = Counter()
    file = tmp_path / "config.json"
    file.write_text(json.dumps(good))
    assert imported(file, "good").toml()

    @SOME
    @given(broken(good))
    def one(raw: dict[str, Any]) -> None:
        file.write_text(json.dumps(raw))
        seen[refused(lambda: imported(file, "bad"), "config.json")] += 1

    one()
    assert seen[True] > 30, seen


def test_torn_configurations_and_cases_are_told(tmp_path: Path) -> None:
    """Bytes that are no JSON."""
    seen: Counter[bool] = Counter()
    cases = (ROOT / "tests/published/training_cases.jsonl").read_text(encoding="utf-8").splitlines()[:2]

    @FEWER
    @given(torn(json.dumps(CONFIG)), torn("\n".join(cases)))
    def one(raw: bytes, lines: bytes) -> None:
        config, listed = tmp_path / "config.json", tmp_path / "cases.jsonl"
        config.write_bytes(raw)
        listed.write_bytes(lines)
        seen[refused(lambda: imported(config, "bad"), "config.json")] += 1

        def read() -> None:
            for case in read_cases([listed]):
                json.dumps(as_json(predict(case)), allow_nan=False)

        seen[refused(read, "cases.jsonl")] += 1

    one()
    assert seen[True] > 40, seen


EXPLAIN = ["explain", "--model", "llama-3-8b", "--system", "hgx-h20", "--chips", "8", "--layout", "tp=2,pp=2,mbs=1",
           "--batch", "16", "--sequence", "2048", "--format", "bf16", "--stack", "megatron-2025"]  # fmt: skip
COMMANDS: list[list[str]] = [
    EXPLAIN,
    ["try", *EXPLAIN[1:7], "--batch", "16", "--layout", "tp=8,mbs=1", "--top", "2", "--objective", "mfu",
     "--set", "seed=3", "--set", "designs.change.chip.hbm_bytes=90 GB"],
    ["try", *EXPLAIN[1:7], "--phase", "decode", "--tpot", "50 ms", "--input", "1024", "--output", "128", "--layout",
     "tp=8,pp=1", "--kv-format", "fp8", "--engine", "vllm-2025"],
    ["size", *EXPLAIN[1:5], "--load", "500 tokens/s", "--input", "512", "--output", "128", "--ttft", "2 s", "--chips",
     "8", "--deployment", "colocated", "--set", "layout.tensor_parallel=8"],
    ["compare", "hgx-h20 8 tp=8", "dgx-h100 8 tp=8", "--model", "llama-3-8b", "--batch", "16"],
    ["export", *EXPLAIN[1:], "--to", "megatron-lm"],
    ["trace", *EXPLAIN[1:]],
    ["show", "h20"], ["list", "chips"], ["digest", "runs/none"], ["explain", "runs/none#1"], ["report", "runs/none"],
    ["plan", "none.toml", "--set", "seed=1"], ["import", "none.json", "--as", "x"], ["validate", "none.jsonl"],
    ["schema", "study"],
]  # fmt: skip
JUNK = ["", " ", "0", "-1", "2.5", "1e99", "9" * 30, "x", "nan", "lama-3", "tp", "tp=0", "tp=3", "tp=8,tp=8",
        "=", "a=b=c", "8 kg", "50", "-5 ms", "\x00", "ü☃", "../..", "/", "#", "runs#", "#1", ".", "seed=-1",
        "layout.tp=3", "phase=x", "designs[9].label=x", "[[", "x" * 5000, "--no-such-option", "16", "32", "fp8", "3",
        "64"]  # fmt: skip


def test_bad_command_lines_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """One word or two of a command in place of others: an answer, or what is wrong, by exit code."""
    monkeypatch.chdir(tmp_path)
    seen: Counter[int] = Counter()

    @SOME
    @given(st.data())
    def one(data: st.DataObject) -> None:
        words = list(data.draw(st.sampled_from(COMMANDS)))
        for _ in range(data.draw(st.integers(1, 2))):
            place = data.draw(st.integers(1, len(words) - 1))
            words[place] = data.draw(st.sampled_from(JUNK))
        with pytest.raises(SystemExit) as ended:
            main(words)
        told = capsys.readouterr()
        code = int(ended.value.code or 0)
        seen[code] += 1
        assert code in (0, 2, 3), words
        assert "Traceback" not in told.err
        assert told.err if code else told.out or told.err, words
        if code == 2:
            assert told.out == "" or "Usage" in told.out, words

    one()
    assert seen[2] > 60, seen
