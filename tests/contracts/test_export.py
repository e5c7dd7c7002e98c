"""Exported launches hold only options that their frameworks document, and lose nothing of a layout in silence."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.chip import FORMATS, TRAINING_FORMATS
from model.layout import (
    CONTEXT_EXCHANGES,
    OFFLOADS,
    OVERLAPS,
    RANK_ORDERS,
    RECOMPUTE_MODULES,
    SCHEDULES,
    Layout,
)
from sweep import catalogue, load
from sweep.cli import main
from sweep.errors import InputError
from sweep.launch.arguments import Command, Launch, yaml
from sweep.launch.export import OTHER_NAMES, SERVERS, TRAINERS, framework
from sweep.launch.jobs import InstanceJob, ServingJob, TrainingJob
from sweep.launch.options import options
from sweep.work import KV_BYTES

MODELS = ("deepseek-v3", "llama-3.1-405b", "mixtral-8x7b", "gpt-oss-120b", "gpt-3-175b", "deepseek-v4-pro")
each_trainer = pytest.mark.parametrize("to", TRAINERS)
each_server = pytest.mark.parametrize("to", SERVERS)


def training(model: str = "deepseek-v3", stack: str = "megatron-bridge-2026", number_format: str = "bf16",
             **layout: int) -> TrainingJob:  # fmt: skip
    """A job of 2048 ranks."""
    fields = {"tensor_parallel": 2, "pipeline_parallel": 8, "data_parallel": 128, "global_batch": 4096} | layout
    return TrainingJob(
        catalogue.system("dgx-h100"), catalogue.stack(stack), catalogue.architecture(model), 4096, number_format,
        Layout(**fields), "a test", 2048, 1.0,
    )  # fmt: skip


def serving(model: str = "deepseek-v3", kind: str = "decode", weights: str = "fp8", cache: str = "bf16",
            **instance: int) -> ServingJob:  # fmt: skip
    """A job of one kind of instance."""
    fields = {
        "count": 2, "tensor_parallel": 1, "pipeline_parallel": 1, "context_parallel": 1, "data_parallel": 16,
        "expert_parallel": 16, "expert_tensor_parallel": 1, "micro_batches": 1, "draft_tokens": 0, "redundant": 0,
        "batch": 512, "chunk": 0,
    } | instance  # fmt: skip
    return ServingJob(
        catalogue.system("dgx-h200"), "vllm-2026", catalogue.architecture(model), weights, cache, 8192, 0.9, 16,
        (InstanceJob(kind, **fields),), 32, "a test", "1 tokens/s",
    )  # fmt: skip


def undocumented(made: Launch) -> list[str]:
    """Options and values of a launch that its framework does not document."""
    known = options(made.name)
    wrong = []
    for command in made.commands:
        for option, value in {**command.arguments, **command.configuration}.items():
            plain = option.replace("--no-", "--", 1) if option not in known.names else option
            if option not in known.names and plain not in known.names:
                wrong.append(option)
            words = [value] if isinstance(value, str) else value if isinstance(value, tuple) else []
            allowed = known.choices.get(option, words)
            wrong += [f"{option} {word}" for word in words if word not in allowed and not word.startswith("$")]
    return wrong


LAYOUTS = st.fixed_dictionaries(
    {
        "tensor_parallel": st.sampled_from([1, 2, 8]),
        "context_parallel": st.sampled_from([1, 2]),
        "pipeline_parallel": st.sampled_from([1, 4, 16]),
        "virtual_stages": st.sampled_from([1, 2, 3]),
        "expert_parallel": st.sampled_from([1, 8]),
        "expert_tensor_parallel": st.sampled_from([1, 2]),
        "sequence_parallel": st.integers(0, 1),
        "recompute": st.integers(0, 2 ** len(RECOMPUTE_MODULES) - 1),
        "zero_stage": st.integers(0, 3),
        "schedule": st.integers(0, len(SCHEDULES) - 1),
        "context_exchange": st.integers(0, len(CONTEXT_EXCHANGES) - 1),
        "rank_order": st.integers(0, len(RANK_ORDERS) - 1),
        "overlap_off": st.integers(0, 2 ** len(OVERLAPS) - 1),
        "offload": st.integers(0, 2 ** len(OFFLOADS) - 1),
    }
)


@each_trainer
@settings(max_examples=20, deadline=None)
@given(
    layout=LAYOUTS,
    model=st.sampled_from(MODELS),
    stack=st.sampled_from(catalogue.names("stacks")),
    number_format=st.sampled_from(sorted(TRAINING_FORMATS)),
)
def test_every_training_option_is_documented(
    to: str, layout: Mapping[str, int], model: str, stack: str, number_format: str
) -> None:
    """Whatever the layout, model, software and format: options and values stand in the framework's own list."""
    made = TRAINERS[to](training(model, stack, number_format, **layout))
    assert not undocumented(made)


INSTANCES = st.fixed_dictionaries(
    {
        "tensor_parallel": st.sampled_from([1, 8]),
        "pipeline_parallel": st.sampled_from([1, 2]),
        "context_parallel": st.sampled_from([1, 2]),
        "data_parallel": st.sampled_from([1, 16]),
        "expert_parallel": st.sampled_from([1, 8, 128]),
        "expert_tensor_parallel": st.sampled_from([1, 2]),
        "micro_batches": st.integers(1, 2),
        "draft_tokens": st.integers(0, 2),
        "redundant": st.sampled_from([0, 32]),
        "chunk": st.sampled_from([0, 8192]),
    }
)


@each_server
@settings(max_examples=20, deadline=None)
@given(
    instance=INSTANCES,
    kind=st.sampled_from(["serving", "prefill", "decode"]),
    model=st.sampled_from(MODELS),
    weights=st.sampled_from(sorted(FORMATS)),
    cache=st.sampled_from(sorted(KV_BYTES)),
)
def test_every_serving_option_is_documented(
    to: str, instance: Mapping[str, int], kind: str, model: str, weights: str, cache: str
) -> None:
    """Whatever the instance, model and formats: options and values stand in the framework's own list."""
    job = serving(model, kind, weights, cache, **instance)
    prompts = replace(job.instances[0], kind="prefill")
    both = replace(job, instances=(prompts, replace(job.instances[0], kind="decode")))
    assert not undocumented(SERVERS[to](job))
    assert not undocumented(SERVERS[to](both))


def told(made: Launch) -> Any:
    """What a reader of a launch sees of the layout."""
    commands = [(dict(one.arguments), dict(one.configuration)) for one in made.commands]
    return commands, made.lacking, made.remarks


CHANGES: Mapping[str, tuple[int, Mapping[str, int]]] = {
    "tensor_parallel": (4, {}),
    "context_parallel": (2, {}),
    "pipeline_parallel": (4, {}),
    "virtual_stages": (2, {"schedule": SCHEDULES.index("interleaved")}),
    "expert_parallel": (16, {}),
    "expert_tensor_parallel": (2, {}),
    "micro_batch": (2, {}),
    "global_batch": (2048, {}),
    "sequence_parallel": (0, {}),
    "zero_stage": (3, {"pipeline_parallel": 1}),
    "context_exchange": (1, {"context_parallel": 2}),
    "rank_order": (1, {}),
    **{f"schedule {name}": (code, {}) for code, name in enumerate(SCHEDULES) if name not in ("1f1b", "interleaved")},
    **{f"recompute {name}": (1 << bit, {}) for bit, name in enumerate(RECOMPUTE_MODULES)},
    **{f"overlap_off {name}": (1 << bit, {}) for bit, name in enumerate(OVERLAPS)},
    **{f"offload {name}": (1 << bit, {}) for bit, name in enumerate(OFFLOADS)},
}


@each_trainer
@pytest.mark.parametrize("change", CHANGES)
def test_no_field_of_a_layout_is_dropped_in_silence(to: str, change: str) -> None:
    """Changing any field changes an argument, or what is said that the framework cannot express."""
    value, beside = CHANGES[change]
    stack = replace(catalogue.stack("megatron-bridge-2026"), tensor_overlap=0.5, expert_overlap=0.5,
                    gradient_overlap=0.5)  # fmt: skip
    start = {"expert_parallel": 8, "sequence_parallel": 1, **beside}
    before = replace(training(**start), stack=stack)
    after = replace(training(**start | {change.split()[0]: value}), stack=stack)
    assert told(TRAINERS[to](before)) != told(TRAINERS[to](after))


@each_server
@pytest.mark.parametrize(
    ("field", "value"),
    [("tensor_parallel", 2), ("pipeline_parallel", 2), ("context_parallel", 2), ("data_parallel", 8),
     ("expert_parallel", 8), ("micro_batches", 2), ("micro_batches", 4), ("draft_tokens", 1), ("redundant", 16),
     ("batch", 1024)],
)  # fmt: skip
def test_no_field_of_an_instance_is_dropped_in_silence(to: str, field: str, value: int) -> None:
    """The same for instances that serve."""
    before, after = serving(), serving(**{field: value})
    assert told(SERVERS[to](before)) != told(SERVERS[to](after))


@each_trainer
def test_degrees_multiply_to_the_ranks(to: str) -> None:
    """Tensor x context x pipeline degrees divide the processes that the script starts, and leave the replicas."""
    job = training(context_parallel=2, data_parallel=64)
    made = TRAINERS[to](job)
    given_ = {key.rpartition(".")[2].strip("-").replace("-", "_"): value
              for key, value in made.commands[0].arguments.items()}  # fmt: skip
    found = 1
    for name in ("tensor", "pipeline", "context"):
        found *= next(v for k, v in given_.items() if re.fullmatch(rf"{name}(_model)?_parallel_(size|degree)", k))
    assert int(made.variables["NNODES"]) * int(made.variables["NPROC_PER_NODE"]) == job.ranks == found * 64


def test_tensorrt_divides_the_cache_as_it_was_predicted() -> None:
    """Context parallelism of TensorRT-LLM divides the heads unless it is told to divide the cache."""
    divided = {"context_parallel": 4, "data_parallel": 1, "expert_parallel": 4}
    alone, both = (SERVERS["tensorrt-llm"](serving(kind=kind, **divided)) for kind in ("decode", "serving"))
    (command,) = alone.commands
    assert command.configuration["cp_config.cp_type"] == "HELIX"
    assert (
        command.configuration["cp_config.tokens_per_block"] == command.configuration["kv_cache_config.tokens_per_block"]
    )
    assert not any("HELIX" in one for one in alone.lacking)
    assert any("HELIX" in one for one in both.lacking)
    assert not any(key.startswith("cp_config") for key in SERVERS["tensorrt-llm"](serving()).commands[0].configuration)


def test_megatron_writes_the_split_of_the_model() -> None:
    """An uneven split names every chunk: 61 layers on 8 stages of 2 chunks, embedding first, loss last."""
    made = TRAINERS["megatron-lm"](training(virtual_stages=2, schedule=2))
    layout = str(made.commands[0].arguments["--pipeline-model-parallel-layout"]).split("|")
    assert [chunk.count("t") for chunk in layout] == [4] * 13 + [3] * 3
    assert layout[0].startswith("E") and layout[-1].endswith("mL")


def test_mindspeed_fills_short_chunks_with_layers_that_do_nothing() -> None:
    """MindSpeed has no list of chunks: 64 layers, of which 3 do nothing."""
    made = TRAINERS["mindspeed-llm"](training(virtual_stages=2, schedule=2))
    arguments = made.commands[0].arguments
    idle = str(arguments["--noop-layers"]).split(",")
    assert arguments["--num-layers"] == 64 and len(idle) == 3 and set(idle) == {"55", "59", "63"}


def test_dense_layers_ahead_of_the_mixtures_are_a_pattern() -> None:
    """DeepSeek-V3 has three dense layers first."""
    arguments = TRAINERS["megatron-lm"](training()).commands[0].arguments
    assert arguments["--moe-layer-freq"] == "([0]*3+[1]*58)"


@pytest.mark.parametrize(("every", "option"), [(1, None), (4, 4), (10**6, None)])
def test_windows_of_all_layers_stay_windows(every: int, option: int | None) -> None:
    """Megatron takes "one layer in one" for no window at all: where no layer sees everything the option is left out."""
    job = training("llama-3-8b")
    job = replace(job, model=replace(job.model, window=4096, full_attention_every=every))
    arguments = TRAINERS["megatron-lm"](job).commands[0].arguments
    assert arguments["--window-size"] == "4095,0" and arguments.get("--window-attn-skip-freq") == option


@pytest.mark.parametrize("stack", catalogue.names("stacks"))
def test_every_stack_has_a_framework(stack: str) -> None:
    """Without --to a row of any stack is exported to its own framework or, said so, to the nearest."""
    name, own = framework("stacks", stack, "NVIDIA", None)
    assert name in TRAINERS
    if any(word in TRAINERS for word in catalogue.entry("stacks", stack).facts["frameworks"]):
        assert own


@pytest.mark.parametrize("engine", catalogue.names("engines"))
def test_every_engine_has_a_framework(engine: str) -> None:
    """The same for engines."""
    name, own = framework("engines", engine, "Huawei", None)
    assert name in SERVERS
    if any(word in SERVERS for word in catalogue.entry("engines", engine).facts["frameworks"]):
        assert own


@pytest.mark.parametrize(
    ("kind", "to", "said"),
    [("stacks", "megatron-ml", "megatron-lm"), ("stacks", "vllm", "serves"), ("engines", "torchtitan", "trains"),
     ("engines", "", "known")],
)  # fmt: skip
def test_a_wrong_framework_is_told(kind: str, to: str, said: str) -> None:
    """A typing error gets the nearest names, a server for a training row the ones that train."""
    with pytest.raises(InputError, match=said):
        framework(kind, "megatron-2025" if kind == "stacks" else "vllm-2026", "NVIDIA", to)


def test_other_names_lead_to_frameworks() -> None:
    """Every short name is that of a framework."""
    assert set(OTHER_NAMES.values()) <= {*TRAINERS, *SERVERS}


def test_hostile_names_stay_words(tmp_path: Path) -> None:
    """A name with quotes, a command and a line break neither runs nor ends a comment."""
    bad = "x'\"$(touch owned)`touch owned`\ntouch owned\n"
    job = replace(serving(), model=replace(serving().model, name=bad), origin=bad)
    program = tmp_path / "vllm"
    program.write_text('#!/bin/sh\nprintf "%s|" "$@" > seen\n', encoding="utf-8")
    program.chmod(0o755)
    script = tmp_path / "launch.sh"
    script.write_text(SERVERS["vllm"](job).script(), encoding="utf-8")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", str(script), "more"], cwd=tmp_path, env=environment, check=True)
    assert not (tmp_path / "owned").exists()
    seen = (tmp_path / "seen").read_text(encoding="utf-8").split("|")
    assert seen[:2] == ["serve", bad] and seen[-2] == "more"
    assert json.loads(json.dumps(SERVERS["vllm"](job).as_json()))


@pytest.mark.parametrize("to", [*TRAINERS, *SERVERS])
def test_scripts_are_shell(to: str, tmp_path: Path) -> None:
    """Every script parses, and is the same each time."""
    make = TRAINERS.get(to) or SERVERS[to]
    job = training(recompute=2, virtual_stages=2, schedule=2) if to in TRAINERS else serving(draft_tokens=1)
    script = make(job).script()  # type: ignore[operator]
    assert script == make(job).script()  # type: ignore[operator]
    subprocess.run(["bash", "-n"], input=script.encode(), check=True)


@each_server
def test_prompts_and_decoding_start_apart(to: str, tmp_path: Path) -> None:
    """Of two kinds of instances a host starts the one that its ROLE names, and a wrong one is told."""
    job = serving(draft_tokens=1)
    decode = job.instances[0]
    script = SERVERS[to](replace(job, instances=(replace(decode, kind="prefill", batch=48), decode))).script()
    for name in ("vllm", "python", "trtllm-serve"):
        program = tmp_path / name
        program.write_text('#!/bin/sh\nprintf "%s " "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    (tmp_path / "launch.sh").write_text(script, encoding="utf-8")
    said = {}
    for role in ("prefill", "decode", "both"):
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "ROLE": role}
        said[role] = subprocess.run(["bash", "launch.sh"], cwd=tmp_path, env=environment, capture_output=True,
                                    text=True, check=False)  # fmt: skip
    assert said["both"].returncode == 2 and "prefill or decode" in said["both"].stderr
    assert " 3 " in said["prefill"].stdout or " 48 " in said["prefill"].stdout
    assert said["prefill"].stdout != said["decode"].stdout != ""


def test_yaml_nests_dots() -> None:
    """Keys with dots become tables."""
    assert yaml({"a.b": 1, "a.c": "x", "d": True}) == 'a:\n  b: 1\n  c: "x"\nd: true\n'
    assert Command("t", "p", {"a.b": ("x", "y"), "--c": True}).words() == ["a.b='[x,y]'", "--c"]


@pytest.mark.parametrize("name", [*TRAINERS, *SERVERS])
def test_lists_of_options_say_where_they_are_from(name: str) -> None:
    """Every list has a release and a source, and choices of options that it holds."""
    known = options(name)
    assert known.release and len(known.source) > 20 and len(known.names) > 20
    assert set(known.choices) <= known.names


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    out = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, out.out, out.err


LAYOUT = ("--model", "llama-3.1-405b", "--system", "gb200-nvl72", "--chips", "1152", "--layout", "tp=8,pp=8,vp=2",
          "--batch", "1152", "--sequence", "8192")  # fmt: skip


def test_a_layout_is_exported_to_the_framework_of_its_stack(capsys: pytest.CaptureFixture[str]) -> None:
    """The machine's default stack is Megatron-Bridge; its recipe is named, and the degrees stand in the script."""
    code, out, err = run(capsys, "export", *LAYOUT)
    assert (code, err) == (0, "")
    assert "--recipe llama31_405b_pretrain_config" in out and "model.tensor_model_parallel_size=8" in out


def test_a_framework_of_other_chips_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """What runs on one maker's chips alone says so for another's."""
    asked = ("--model", "llama-3-8b", "--chips", "8", "--layout", "dp=8", "--batch", "64")
    _, script, _ = run(capsys, "export", "--system", "dgx-h100", *asked, "--to", "mindspeed-llm")
    assert "MindSpeed-LLM runs on chips of Huawei, and h100 is none." in script
    _, own, _ = run(capsys, "export", "--system", "dgx-h100", *asked, "--to", "megatron-lm")
    assert own
    assert "is none" not in own


def test_json_and_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """--output writes the script, --json prints the object with what is not expressed."""
    file = tmp_path / "launch.sh"
    code, out, _ = run(capsys, "export", *LAYOUT, "--to", "torchtitan", "--output", str(file), "--json")
    found = json.loads(out)
    assert code == 0 and found["framework"] == "torchtitan" and found["not_expressed"]
    assert os.access(file, os.X_OK) and "-m torchtitan.train" in file.read_text(encoding="utf-8")


def test_a_question_of_serving_is_exported(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a run the best instances of the question are searched."""
    code, out, _ = run(capsys, "export", "--model", "llama-3.1-8b", "--system", "dgx-h100", "--chips", "8", "--phase",
                       "decode", "--to", "vllm", "--tpot", "20 ms")  # fmt: skip
    assert code == 0 and "vllm serve" in out and "--max-num-seqs" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export",), "--model"),
        (("export", "runs/none#3"), "not the folder of a run"),
        (("export", "runs/none"), "not the folder of a run"),
        (("export", "--phase", "decode"), "--system"),
        (("export", *LAYOUT, "--to", "megtron"), "did you mean"),
        (("export", *LAYOUT[:-6], "--layout", "tp=8,qq=2"), "qq"),
        (("export", "--model", "lama", "--system", "gb200-nvl72", "--chips", "8", "--phase", "decode"), "lama"),
    ],
)
def test_bad_input_is_told(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    """What is missing or wrong is told by its option, with exit code 2."""
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "") and said in err and "Traceback" not in err


STUDY = """
question = "Which layout?"
chips = [16, 32]
[[workloads]]
model = "llama-3-8b"
sequence = "4096 token"
batch = 64
[[designs]]
system = "dgx-h100"
[[designs]]
system = "dgx-a100"
[search]
rows = "top:3"
objective = "energy_per_token_j"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["run", str(folder / "study.toml"), "--workers", "0", "--out", str(folder / "runs")])
    return next((folder / "runs").iterdir())


def test_the_best_row_of_a_run_is_exported(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    """RUN is the row of the best objective, with its own layout; RUN#ROW is that row."""
    rows = load(finished)
    best = int(rows["energy_per_token_j"].to_numpy().argmin())
    code, out, _ = run(capsys, "export", str(finished), "--to", "megatron-lm")
    assert code == 0 and f"#{best}, the best of the run by energy_per_token_j" in " ".join(out.split()).replace(
        " # ", " "
    )
    assert f"--tensor-model-parallel-size {rows['tp'].iloc[best]} " in out.replace("\n", " ")
    _, same, _ = run(capsys, "export", f"{finished}#{best}", "--to", "megatron-lm", "--json")
    assert json.loads(same)["commands"][0]["arguments"]["--micro-batch-size"] == rows["mbs"].iloc[best]


def test_a_row_of_a_run_is_traced(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    """The trace of a row ends with the step time of the data set."""
    code, out, _ = run(capsys, "trace", f"{finished}#1")
    assert code == 0
    assert json.loads(out)["otherData"]["step_time_s"] == pytest.approx(load(finished)["step_time_s"].iloc[1])


def test_a_row_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    """With how many there are."""
    for verb in ("export", "trace"):
        code, out, err = run(capsys, verb, f"{finished}#999")
        assert (code, out) == (2, "") and "rows, counted from 0" in err
        assert run(capsys, verb, f"{finished}#x")[0] == 2


def test_what_is_exported_is_what_a_question_finds(capsys: pytest.CaptureFixture[str]) -> None:
    """A question of serving is the same to `sweep export` and to `sweep try`: prompts together or apart."""
    asked = ("--model", "llama-3-70b", "--system", "dgx-h200", "--chips", "8", "--phase", "serving",
             "--tpot", "30 ms", "--json")  # fmt: skip
    _, tried, _ = run(capsys, "try", *asked)
    (best,) = json.loads(tried)["answer"]
    code, exported, _ = run(capsys, "export", *asked)
    assert code == 0 and f"{best['tokens_per_s']:,.0f} tokens/s" in json.loads(exported)["job"][1]
    code, _, said = run(capsys, "export", *asked[:-3], "--answer", "3 apples")
    assert code == 2 and "--answer" in said
