"""What `sweep import` refuses, how it says so, and what it writes."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep import catalogue
from sweep.cli import main
from sweep.errors import InputError
from sweep.hugging_face.families import FAMILIES, REFUSED
from sweep.hugging_face.record import imported, written

LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
}  # fmt: skip
MIXTURE = LLAMA | {"model_type": "qwen3_moe", "num_experts": 64, "num_experts_per_tok": 4,
                   "moe_intermediate_size": 1024}  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    out = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, out.out, out.err


def config(folder: Path, keys: object, name: str = "config.json") -> Path:
    """A configuration file."""
    file = folder / name
    file.write_text(keys if isinstance(keys, str) else json.dumps(keys), encoding="utf-8")
    return file


def test_the_record_is_printed_and_the_count_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The record goes to standard output and is one of the catalogue, the count to standard error."""
    folder = tmp_path / "My-Llama-8B"
    folder.mkdir()
    config(folder, LLAMA)
    code, out, err = run(capsys, "import", str(folder))
    assert code == 0 and "8.03 B parameters" in err and "its name says 8 B: +0.4%, agrees" in err
    assert tomllib.loads(out)["architecture"]["feed_forward"] == 14336


def test_an_imported_model_can_be_studied(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The record written into a folder of one's own is a model there, with the shapes of the file."""
    config(tmp_path, MIXTURE)
    code, out, _ = run(capsys, "import", str(tmp_path), "--as", "mine-7b", "--catalogue", str(tmp_path / "own"))
    assert code == 0 and "written to" in out
    found = catalogue.architecture("mine-7b", tmp_path / "own")
    assert found.experts is not None and (found.experts.experts, found.experts.per_token) == (64, 4)
    code, out, err = run(capsys, "import", str(tmp_path), "--as", "mine-7b", "--catalogue", str(tmp_path / "own"))
    assert (code, out) == (2, "") and "is there already" in err


def test_json_holds_count_and_record(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """--json prints one object."""
    config(tmp_path, LLAMA)
    code, out, _ = run(capsys, "import", str(tmp_path), "--as", "a", "--json")
    told = json.loads(out)
    assert code == 0 and told["parameters"] == 8_029_995_008 and tomllib.loads(told["record"])["title"]


@pytest.mark.parametrize(
    ("facts", "source", "agrees"),
    [
        ({"total_size": 2 * 8_030_261_248}, "the size of the weights in bfloat16", True),
        ({"total_parameters": 8_030_261_248}, "the index of the weights", True),
        ({"total_parameters": 13_000_000_000}, "the index of the weights", False),
    ],
)
def test_the_index_of_the_weights_is_held_against_the_count(
    facts: dict[str, int], source: str, agrees: bool, tmp_path: Path
) -> None:
    """An index beside the file says how many parameters there are; a difference is told."""
    config(tmp_path, LLAMA | {"torch_dtype": "bfloat16"})
    config(tmp_path, {"metadata": facts, "weight_map": {}}, "model.safetensors.index.json")
    found = imported(tmp_path, "x")
    assert source in found.said
    line = next(line for line in found.lines() if source in line)
    assert ("agrees" in line) == agrees and ("DIFFERS" in line) != agrees


@pytest.mark.parametrize("kind", [None, 16, ["bfloat16"], {}, "int3"])
def test_an_odd_type_of_the_weights_is_no_hint_of_their_number(kind: object, tmp_path: Path) -> None:
    """A size in bytes says nothing where the bytes of a number are not known."""
    config(tmp_path, LLAMA | {"torch_dtype": kind})
    config(tmp_path, {"metadata": {"total_size": 16e9}}, "model.safetensors.index.json")
    assert imported(tmp_path, "x").said == {}


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_what_cannot_be_expressed_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    """State spaces, linear attention, encoders, vision: refused with the reason, inside of another model too."""
    for keys in (LLAMA | {"model_type": kind}, {"model_type": "llava", "text_config": LLAMA | {"model_type": kind}}):
        with pytest.raises(InputError) as failure:
            imported(config(tmp_path, keys), "x")
        (one,) = failure.value.problems
        assert kind in one.sentence() and "cannot be expressed" in one.rule and one.remedy


def test_no_family_is_read_and_refused() -> None:
    """A name stands in one of the two lists."""
    assert not set(FAMILIES) & set(REFUSED)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_every_family_is_read(kind: str, tmp_path: Path) -> None:
    """Every known architecture gives a model from the usual keys, and a record that the catalogue takes."""
    keys = MIXTURE | {"model_type": kind, "intermediate_size_mlp": 8192}
    if not FAMILIES[kind].mixture:
        keys |= {"num_experts": None}
    found = imported(config(tmp_path, keys), "x")
    assert found.shape.parameters > 1e9 and (found.shape.experts is not None) == FAMILIES[kind].mixture
    written(found, tmp_path / kind)
    assert catalogue.architecture("x", tmp_path / kind) == found.shape


BAD: list[tuple[object, str]] = [
    ("", "not JSON"),
    ("{", "not JSON"),
    ("[1, 2]", "must hold an object"),
    ("[" * 100_000, "not JSON"),
    ({}, "model_type"),
    ({"model_type": 7}, "must be a text"),
    ({"model_type": "lama"}, "did you mean 'llama'"),
    ({"model_type": "qwen9_moe"}, "qwen3_moe"),
    ({"model_type": "llama"}, "hidden_size"),
    (LLAMA | {"hidden_size": "big"}, "must be a whole number"),
    (LLAMA | {"hidden_size": True}, "must be a whole number"),
    (LLAMA | {"num_hidden_layers": 0}, "must be a whole number"),
    (LLAMA | {"num_hidden_layers": -3}, "must be a whole number"),
    (LLAMA | {"vocab_size": 10**30}, "must be a whole number"),
    (LLAMA | {"num_attention_heads": 31, "num_key_value_heads": None}, "must divide the hidden size"),
    (LLAMA | {"num_key_value_heads": 5}, "must divide the 32 heads"),
    (LLAMA | {"is_encoder_decoder": True}, "encoder beside its decoder"),
    (LLAMA | {"layer_types": ["linear_attention", "full_attention"]}, "full or sliding attention"),
    (LLAMA | {"layer_types": [[]]}, "full or sliding attention"),
    (LLAMA | {"layer_types": "x", "sliding_window": 7}, "must be a list of texts"),
    (LLAMA | {"tie_word_embeddings": "no"}, "must be true or false"),
    (LLAMA | {"intermediate_size": [1, 2]}, "must be the same in all layers"),
    (MIXTURE | {"num_experts": None}, "missing"),
    (MIXTURE | {"num_experts_per_tok": 65}, "at most the 64 experts"),
    (MIXTURE | {"mlp_only_layers": [5, 9]}, "must be the first layers"),
    (MIXTURE | {"first_k_dense_replace": 32}, "must leave one"),
    (MIXTURE | {"kv_lora_rank": 512}, "qk_nope_head_dim"),
    ({"model_type": "llava", "text_config": []}, "llava"),
]


@pytest.mark.parametrize(("keys", "said"), BAD, ids=range(len(BAD)))
def test_bad_files_are_told(capsys: pytest.CaptureFixture[str], keys: object, said: str, tmp_path: Path) -> None:
    """File, key, rule and value, exit code 2, never a traceback."""
    file = config(tmp_path, keys)
    code, out, err = run(capsys, "import", str(file), "--as", "x")
    assert (code, out) == (2, "") and said in err and str(file) in err and "Traceback" not in err


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """Every key that is wrong, not only the first."""
    with pytest.raises(InputError) as failure:
        imported(config(tmp_path, {"model_type": "llama", "hidden_size": -1, "vocab_size": "x"}), "x")
    assert {one.key for one in failure.value.problems} >= {"hidden_size", "vocab_size", "num_hidden_layers"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("import",), "CONFIG"),
        (("import", "none.json"), "no such file"),
        (("import", "CONFIG", "--as", "../x"), "must be small letters"),
        (("import", "CONFIG", "--as", "A B"), "must be small letters"),
        (("import", "CONFIG", "--as", "x", "--like", "lama"), "did you mean 'llama'"),
        (("import", "CONFIG", "--as", "x", "--catalogue", "/proc/no/folder"), "/proc"),
    ],
)
def test_bad_options_are_told(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    """The same for what is typed."""
    file = str(config(tmp_path, LLAMA))
    code, out, err = run(capsys, *(file if word == "CONFIG" else word for word in words))
    assert code == 2 and said in out + err and "Traceback" not in err


def test_a_family_can_be_named(tmp_path: Path) -> None:
    """An unknown architecture is read as one that it is like."""
    found = imported(config(tmp_path, LLAMA | {"model_type": "brand_new"}), "x", "llama")
    assert found.shape.parameters == 8_029_995_008


def test_hostile_names_are_plain_text(tmp_path: Path) -> None:
    """Quotes, line breaks and escape codes of a name neither break the record nor reach a terminal."""
    bad = 'org/a"\\\n\x1b[31m\u202e\ud800]7b'
    found = imported(config(tmp_path, LLAMA | {"_name_or_path": bad}))
    record = tomllib.loads(found.toml())
    assert record["architecture"]["hidden"] == 4096 and record["title"].isprintable()
    assert all(c.isprintable() for line in found.lines() for c in line)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [*MIXTURE, "text_config", "layer_types", "sliding_window", "kv_lora_rank", "q_lora_rank", "qk_nope_head_dim",
     "tie_word_embeddings", "mlp_only_layers", "first_k_dense_replace", "decoder_sparse_step", "n_shared_experts",
     "num_nextn_predict_layers", "index_topk", "head_dim", "multi_query", "_name_or_path", "torch_dtype",
     "sliding_window_pattern", "use_sliding_window", "max_position_embeddings", "attn_config", "ffn_config",
     "quantization_config", "vision_config", "expansion_ratio"]
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(FAMILIES)),
    changed=st.dictionaries(KEYS, VALUES, max_size=4),
    index=st.none() | VALUES,
)
def test_generated_files_are_imported_or_told(kind: str, changed: dict[str, Any], index: Any, tmp_path: Path) -> None:
    """Whatever a file holds: a record that the catalogue takes, or problems with a file and a rule."""
    file = config(tmp_path, MIXTURE | {"model_type": kind} | changed)
    config(tmp_path, {"metadata": index}, "model.safetensors.index.json")
    try:
        found = imported(file)
    except InputError as failure:
        assert all(one.file and one.rule for one in failure.problems)
        assert "\n" not in failure.problems[0].rule
    else:
        assert tomllib.loads(found.toml())["architecture"]["layers"] >= 1 and found.lines()
