"""Which stack a case is predicted with, and why; chips by any spelling; stacks that are like others."""

from pathlib import Path
from typing import Any

import pytest

from sweep import catalogue, provenance
from sweep.chip_names import CHIP_SYSTEMS, chip_of
from sweep.commands.validate import validate
from sweep.errors import InputError
from sweep.published import is_fully_sharded
from sweep.stack_choice import choose_stack
from sweep.validation import predict

CASE: dict[str, Any] = {
    "id": "one", "chip": "h100_sxm", "num_chips": 8, "seq_len": 4096, "global_batch": 64, "micro_batch": 1,
    "tp": 4, "pp": 1, "recompute": "none", "grade": "A", "target": {"step_time_s": 4.0},
    "arch": {"layers": 32, "hidden": 4096, "ffn_hidden": 14336, "heads": 32, "kv_heads": 8, "vocab": 128256},
}  # fmt: skip


def case(framework: str | None, **changes: Any) -> dict[str, Any]:
    """A complete case of a framework."""
    return {**CASE, "software": {"framework": framework, "year": changes.pop("year", None)}, **changes}


# ---------------------------------------------------------------------------------------------- frameworks
@pytest.mark.parametrize(
    ("written", "stack"),
    [
        ("Megatron-LM", "megatron-2025"), ("megatron_lm", "megatron-2025"), ("TorchTitan", "torchtitan"),
        ("HF FSDP", "huggingface"), ("Hugging Face", "huggingface"), ("Axolotl", "huggingface"),
        ("LLaMA Factory", "llama-factory"), ("DeepSpeed", "deepspeed-zero"), ("DeepSpeed ZeRO-3", "deepspeed-zero"),
        ("Megatron-DeepSpeed", "megatron-deepspeed"), ("Colossal-AI", "colossalai"), ("MegaScale", "megascale"),
        ("InternEvo", "internevo"), ("nnScaler", "nnscaler"), ("GPT-NeoX", "gpt-neox-2023"), ("metaseq", "metaseq"),
        ("PaddlePaddle", "paddlepaddle"), ("AXLearn", "maxtext-gpu"), ("NeMo 2.0", "nemo-2025"),
        ("PyTorch FSDP", "fsdp"), ("Primus", "primus"), ("Levanter", "maxtext-gpu"),
        ("Megatron-Core r0.12", "megatron-core-eager-2025"),
    ],
)  # fmt: skip
def test_a_framework_is_found_however_it_is_spelled(written: str, stack: str) -> None:
    """Case, signs, versions and further words do not hide a framework that has a record."""
    assert choose_stack(case(written)).name == stack


def test_every_framework_of_a_record_finds_a_record_of_its_own() -> None:
    """No name that a record lists leads anywhere else, whatever the year."""
    for name in catalogue.names("stacks"):
        for framework in catalogue.entry("stacks", name).facts["frameworks"]:
            for year in (2018, 2021, 2024, 2030):
                taken = choose_stack(case(framework, year=year)).name
                assert framework in catalogue.entry("stacks", taken).facts["frameworks"]


@pytest.mark.parametrize(
    ("written", "chip", "stack"),
    [
        ("Levanter", "tpu_v5p", "levanter"), ("AXLearn", "tpu_v5e", "axlearn"), ("MaxText", "tpu_v6e", "maxtext"),
        ("EasyDeL", "tpu_v4", "maxtext"), ("MaxText", "mi300x", "maxtext-gpu"), ("XLA", "h100_sxm", "jax-toolbox"),
        ("XLA", "tpu_v5p", "maxtext"), ("AXLearn", "trainium2", "neuron"),
    ],
)  # fmt: skip
def test_a_compiler_is_another_on_each_makers_chips(written: str, chip: str, stack: str) -> None:
    """Frameworks of JAX have one record on TPUs and one on GPUs; elsewhere the chip's own kind stands in."""
    assert choose_stack(case(written, chip=chip)).name == stack


@pytest.mark.parametrize(
    ("changes", "stack", "kind"),
    [
        ({"chip": "a100_80", "year": 2021}, "megatron-2021", "megatron"),
        ({"chip": "a100_80", "year": 2022}, "megatron-2022", "megatron"),
        ({"chip": "b200"}, "megatron-2025", "megatron"),
        ({"fsdp": 8, "tp": None}, "fsdp", "fsdp"),
        ({"zero_stage": 3, "tp": 1}, "fsdp", "fsdp"),
        ({"chip": "tpu_v5p"}, "maxtext", "xla"),
        ({"chip": "ascend_910b3", "year": 2024}, "mindspeed-2024", "ascend"),
        ({"chip": "ascend_910c"}, "mindspeed-2025", "ascend"),
        ({"chip": "trainium2"}, "neuron", "neuron"),
    ],
)
def test_an_unknown_framework_takes_the_nearest_of_its_kind_and_year_and_says_so(
    changes: dict[str, Any], stack: str, kind: str
) -> None:
    """Ascend, XLA and Neuron go by the chip, FSDP by how weights are sharded, the rest is Megatron of the year."""
    taken = choose_stack(case("Mystery Trainer", **changes))
    assert taken.name == stack
    assert taken.why.startswith(f"framework 'Mystery Trainer' has no record: {kind}, by ")


def test_other_software_is_read_from_flags_and_source() -> None:
    """Where the framework is "other" its name may stand in the flags or in the title of the source."""
    assert choose_stack(case("other", flags=["nnScaler", "chunked loss"])).name == "nnscaler"
    assert choose_stack(case(None, source={"title": "TorchTitan performance"})).name == "torchtitan"
    assert choose_stack(case("other", source={"title": "DeepSeek-V3 report"})).name == "megatron-2025"  # a model
    assert choose_stack(case("Mystery", source={"title": "TorchTitan performance"})).name != "torchtitan"


def test_the_year_decides_between_records_and_is_bounded_by_the_chip() -> None:
    """A stated year wins; an undated run is at most three years younger than its chip; beyond all, the nearest."""
    assert choose_stack(case("megatron-lm", year=2022)).name == "megatron-2022"
    assert choose_stack(case("nemo", chip="a100_80")).name == "nemo-launcher"
    early = choose_stack(case("megatron-lm", year=2015))
    assert early.name == "megatron-2021"
    assert "nearest to it is megatron-2021 (2020 to 2021)" in early.why


def test_the_prediction_carries_the_reason(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`stack_why` stands in the JSON and in the table of all cases."""
    (found,) = predict(case("Mystery Trainer"))
    assert found.stack == "megatron-2025"
    assert found.stack_why is not None and "Mystery Trainer" in found.stack_why
    file = tmp_path / "cases.jsonl"
    import json

    file.write_text(json.dumps(case("Mystery Trainer")), encoding="utf-8")
    validate(file, all_cases=True)
    assert "Mystery" in capsys.readouterr().out


@pytest.mark.parametrize("stack", ["torchtitan", "deepspeed-zero", "huggingface", "fsdp", "levanter", "axlearn"])
def test_sharding_stacks_shard_where_a_case_is_silent(stack: str) -> None:
    """Frameworks of full sharding shard weights of a case that does not say, and not inside a pipeline."""
    from sweep.case_layouts import question

    record = catalogue.stack(stack)
    plain = case(stack, tp=1)
    assert not is_fully_sharded(plain)
    assert set(question(plain, record, 1).layouts.zero_stage) == {3}
    assert set(question(case(stack, tp=1, pp=2), record, 1).layouts.zero_stage) == {1}


# --------------------------------------------------------------------------------------------------- likeness
def write(folder: Path, **stacks: str) -> None:
    """Stacks of one's own, each with what follows its frameworks."""
    (folder / "stacks").mkdir(exist_ok=True)
    for name, text in stacks.items():
        head = f'title = "{name}"\nwhy = "a test"\nframeworks = ["{name}"]\nfrom_year = 2024\n'
        (folder / "stacks" / f"{name}.toml").write_text(head + text, encoding="utf-8")


def test_a_stack_inherits_what_it_does_not_state(tmp_path: Path) -> None:
    """The own value wins, then that of the one it is like, then the default."""
    own = 'like = "megatron-2022"\ntensor_overlap = { value = 0.3, source = "profile", kind = "measured" }'
    write(tmp_path, mine=own, second='like = "mine"')
    base, found = catalogue.stack("megatron-2022"), catalogue.stack("second", tmp_path)
    assert found.tensor_overlap == 0.3
    assert not found.fused_attention and found.compute_slowdown == base.compute_slowdown
    kept = provenance.entries_used("dgx-h100", "llama-3-8b", "second", tmp_path)
    assert {"stacks/second.toml", "stacks/mine.toml", "stacks/megatron-2022.toml"} <= set(kept)


def test_likeness_in_a_circle_or_of_nobody_is_named(tmp_path: Path) -> None:
    """Both mistakes give one error with file, key and remedy."""
    write(tmp_path, one='like = "two"', two='like = "one"', three='like = "megatron-2202"')
    with pytest.raises(InputError, match="must not lead back to the entry itself, but got 'one -> two -> one'"):
        catalogue.stack("one", tmp_path)
    with pytest.raises(InputError, match=r"did you mean .*'megatron-2022'"):
        catalogue.stack("three", tmp_path)


# ------------------------------------------------------------------------------------------------------ chips
@pytest.mark.parametrize(
    ("written", "chip"),
    [
        ("H100", "h100_sxm"), ("NVIDIA H100 80GB HBM3", "h100_sxm"), ("HGX H100", "h100_sxm"),
        ("A100-SXM4-80GB", "a100_80"), ("A100 40GB", "a100_40"), ("AMD Instinct MI350X", "mi350x"),
        ("MI300X", "mi300x"), ("GB200 NVL72", "gb200"), ("Ascend 910B", "ascend_910b3"), ("910B2", "ascend_910b2"),
        ("TPU v5p", "tpu_v5p"), ("Trillium", "tpu_v6e"), ("Ironwood", "tpu_v7x"), ("trn2", "trainium2"),
    ],
)  # fmt: skip
def test_a_chip_is_found_however_it_is_spelled(written: str, chip: str) -> None:
    """Makers, signs and sizes of memory do not hide a chip, and a prediction is made for it."""
    assert chip_of(written) == chip
    (found,) = predict(case("other", chip=written))
    assert found.predicted is not None and found.chip == chip


def test_own_names_of_chips_are_kept() -> None:
    """Every name of the list is itself, in any case and with any signs."""
    for name in CHIP_SYSTEMS:
        assert chip_of(name) == name == chip_of(name.upper().replace("_", "-"))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("h20x", "did you mean 'h20'"), ("Intel Gaudi 2", "nobody has calibrated"), ("H100 PCIe", "a card whose links"),
        ("TPU v3", "nearest is 'tpu_v4'"), (None, "chip is not stated"),
    ],
)  # fmt: skip
def test_a_chip_that_is_not_there_is_answered_with_what_is_near_or_lacking(written: str | None, said: str) -> None:
    """The reason names the nearest chips, or why there is none."""
    (found,) = predict(case("other", chip=written))
    assert found.predicted is None and said in str(found.reason)
