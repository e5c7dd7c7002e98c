"""The form of a measured case: types and ranges of the fields that the rules of `sweep.published` and
`sweep.serving_cases` read.

Everything may be missing, and fields that nobody reads may be anything: a case that leaves something out is judged by
those rules. What is stated must be readable, or the case is listed with the field at fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from sweep.chip_names import chip_of


def _number(value: Any) -> Any:
    """A number as JSON writes it: pydantic alone would read true as 1 and "8" as 8."""
    if isinstance(value, bool | str):
        raise ValueError("must be a number")
    return value


def _label(value: Any) -> Any:
    """Text, or a number where someone left the quotes away, as in a release of 25.09."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _texts(value: Any) -> Any:
    return [str(one) for one in value] if isinstance(value, list) else [value] if isinstance(value, str) else value


Size = Annotated[int, BeforeValidator(_number), Field(ge=0, le=10**8)] | None
Amount = Annotated[float, BeforeValidator(_number), Field(ge=0, allow_inf_nan=False)] | None
Label = Annotated[str, BeforeValidator(_label)] | None
Chip = Annotated[str, AfterValidator(chip_of)] | None
Texts = Annotated[list[str], BeforeValidator(_texts)] | None


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Latent(_Part):
    q_lora_rank: Size = None
    kv_lora_rank: int = Field(ge=1, le=10**8)
    qk_nope_head_dim: int = Field(ge=0, le=10**8)
    qk_rope_head_dim: int = Field(ge=0, le=10**8)
    v_head_dim: int = Field(ge=1, le=10**8)


class _Experts(_Part):
    experts: Size = None
    experts_per_token: Size = None
    moe_ffn_hidden: Size = None
    shared_experts: Size = None
    shared_ffn_hidden: Size = None
    dense_layers: Size = None
    moe_every_n_layers: Size = None
    moe_layer_freq: Size = None
    biases: bool | None = None
    clamped: bool | None = None


class _Architecture(_Part):
    layers: Size = None
    hidden: Size = None
    heads: Size = None
    ffn_hidden: Size = None
    kv_heads: Size = None
    head_dim: Size = None
    vocab: Size = None
    gated_mlp: bool | None = None
    tied_embeddings: bool | None = None
    mtp_layers: Size = None
    sliding_window: Size = None
    full_attention_every_n_layers: Size = None
    mla: _Latent | None = None
    moe: _Experts | None = None


class _Software(_Part):
    framework: str | None = None
    release: Label = None
    year: Size = None


class _Recipe(_Part):
    cuda_graph_impl: str | None = None
    cuda_graph_scope: Texts = None
    recompute_modules: Texts = None
    moe_flex_dispatcher_backend: str | None = None
    moe_a2a_overlap: bool | None = None
    use_transformer_engine_op_fuser: bool | None = None
    fp8_dot_product_attention: bool | None = None
    use_megatron_fsdp: bool | None = None
    cpu_offloading_num_layers: Size = None


class _Extra(_Part):
    recipe_config: _Recipe | None = None
    tuning_params: dict[str, Any] | None = None
    remat_policy: Label = None
    slices: Size = None
    real_alloc_gib: Amount = None
    max_memory_gb: Amount = None
    peak_mem_mib: Amount = None
    memory_mb: Amount = None


class _Target(_Part):
    step_time_s: Amount = None
    how: Label = None


class _Measured(_Part):
    tflops_per_chip: Amount = None


class _Case(_Part):
    model: Label = None
    task: Label = None
    chip: Chip = None
    chips_per_node: Size = None
    network: str | None = None
    number_format: str | None = None
    schedule: str | None = None
    recompute: str | None = None
    sequence_parallel: bool | None = None
    fsdp: bool | int | str | None = None
    zero_stage: Size = None
    micro_batch: Size = None
    vp: Size = None
    flags: Texts = None
    grade: Label = None
    measured_tflops_kind: str | None = None
    arch: _Architecture | None = None
    software: _Software | None = None
    target: _Target | None = None
    measured: _Measured | None = None
    extra: _Extra | None = None


def _none_or_some(value: float) -> float:
    if 0 < value < _LEAST_COUNT:
        raise ValueError("is neither nothing nor a number of them")
    return value


Degree = Annotated[int, BeforeValidator(_number), Field(ge=1, le=10**8)] | None
_LEAST_COUNT = 1e-3  # sequences of a chip may be a share of one
Count = (
    Annotated[
        float,
        BeforeValidator(_number),
        Field(ge=0, le=10**9, allow_inf_nan=False),
        AfterValidator(_none_or_some),
    ]
    | None
)


class _Sparse(_Part):
    index_topk: int = Field(ge=1, le=10**8)
    index_n_heads: int = Field(ge=1, le=10**8)
    index_head_dim: int = Field(ge=1, le=10**8)


class _ServedArchitecture(_Architecture):
    gated_mlp: Any = None  # some sources name the kind
    sliding_window_every_n_layers: Size = None
    heads_padded_to: Size = None
    dsa: _Sparse | None = None


class _Batch(_Part):
    per_chip: Count = None
    unit: Label = None

    total: Count = Field(default=None, alias="global")


class _Precision(_Part):
    weights: Label = None
    activations: Label = None
    kv: Label = None


class _ServingTarget(_Part):
    tpot_s: Amount = None
    ttft_s: Amount = None
    step_time_s: Amount = None
    total_time_s: Amount = None
    tokens_per_s_per_chip: Amount = None


class _Derived(_Part):
    per_layer_latency_us: Amount = None


class _ServingCase(_Part):
    phase: str | None = None
    group: Label = None
    transcription: Label = None
    notes: str | None = None
    table_or_section: Label = None
    model: Label = None
    chip: Chip = None
    num_chips: Size = None
    input_len: Count = None
    output_len: Count = None
    kv_len: Count = None
    concurrency: Count = None
    batch: _Batch | None = None
    tp: Degree = None
    pp: Degree = None
    dp: Degree = None
    ep: Degree = None
    attention_dp: bool | Annotated[int, Field(ge=1, le=10**8)] | str | None = None
    precision: _Precision | None = None
    features: dict[str, Any] | None = None
    flags: Texts = None
    grade: Label = None
    arch: _ServedArchitecture | None = None
    software: _Software | None = None
    target: _ServingTarget | None = None
    derived: _Derived | None = None


class _PowerCase(_Part):
    machine: str | None = None
    chip: Chip = None
    system: str | None = None
    num_chips: Size = None
    boundary: str | None = None
    cooling: str | None = None
    state: str | None = None
    group: Label = None
    grade: Label = None
    power_cap_w: Amount = None
    reference_cap_w: Amount = None
    rating_w: Amount = None
    tokens: Amount = None
    run: dict[str, Any] | None = None
    workload: dict[str, Any] | None = None
    layout: dict[str, Any] | None = None
    measured: dict[str, Amount] | None = None


def read(case: Mapping[str, Any]) -> dict[str, Any]:
    """The training case with its fields in their types and nothing null.

    Raises ValueError naming every field at fault, and its value.
    """
    return _read(_Case, case)


def read_serving(case: Mapping[str, Any]) -> dict[str, Any]:
    """The same for a serving case."""
    return _read(_ServingCase, case)


def read_power(case: Mapping[str, Any]) -> dict[str, Any]:
    """The same for a power case."""
    return _read(_PowerCase, case)


def _read(form: type[_Part], case: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return form.model_validate(case).model_dump(exclude_none=True, by_alias=True)
    except ValidationError as failure:
        faults = {
            ".".join(part for part in map(str, error["loc"]) if part not in _UNION_MEMBERS):
            f"{error['input']!r:.60}, {error['msg'][:1].lower()}{error['msg'][1:]}"
            for error in failure.errors()
        }  # fmt: skip
        raise ValueError("; ".join(f"{field} is {fault}" for field, fault in faults.items())) from None


_UNION_MEMBERS = ("bool", "int", "str", "constrained-int")
