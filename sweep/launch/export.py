"""Which frameworks launch a row, and the launch itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sweep import catalogue
from sweep.errors import nearest, problem
from sweep.explanation import Explanation
from sweep.launch.arguments import Launch
from sweep.launch.bridge import megatron_bridge
from sweep.launch.jobs import ServingJob, TrainingJob, serving_job, training_job
from sweep.launch.megatron import megatron_lm
from sweep.launch.mindspeed import mindspeed_llm
from sweep.launch.sglang import sglang
from sweep.launch.tensorrt import tensorrt_llm
from sweep.launch.titan import torchtitan
from sweep.launch.vllm import vllm, vllm_ascend
from sweep.limits import over_text

if TYPE_CHECKING:
    from sweep.serving_explanation import ServedExplanation

TRAINERS: Mapping[str, Callable[[TrainingJob], Launch]] = {
    "megatron-lm": megatron_lm,
    "megatron-bridge": megatron_bridge,
    "mindspeed-llm": mindspeed_llm,
    "torchtitan": torchtitan,
}
SERVERS: Mapping[str, Callable[[ServingJob], Launch]] = {
    "vllm": vllm,
    "vllm-ascend": vllm_ascend,
    "sglang": sglang,
    "tensorrt-llm": tensorrt_llm,
}
# Short and other names that people type.
OTHER_NAMES = {
    "megatron": "megatron-lm",
    "mcore": "megatron-lm",
    "nemo": "megatron-bridge",
    "mindspeed": "mindspeed-llm",
    "modellink": "mindspeed-llm",
    "titan": "torchtitan",
    "trtllm": "tensorrt-llm",
    "trt-llm": "tensorrt-llm",
}
# Frameworks that records of the catalogue name -> the one to export to, where they differ.
_OF_RECORDS = {
    "megatron-core": "megatron-lm",
    "nemo": "megatron-bridge",
    "mlperf": "megatron-bridge",
    "mindspeed": "mindspeed-llm",
    "mindformers": "mindspeed-llm",
    "cann": "vllm-ascend",
    "cloudmatrix-infer": "vllm-ascend",
    "trtllm": "tensorrt-llm",
    "sglang-ant": "sglang",
    "fsdp": "torchtitan",
    "llm-foundry": "torchtitan",
}

_ONLY_ON = {"mindspeed-llm": "Huawei", "vllm-ascend": "Huawei", "tensorrt-llm": "NVIDIA"}


def framework(kind: str, record: str, vendor: str, to: str | None) -> tuple[str, bool]:
    """The framework to export to, and whether the record of the software names it.

    Parameters
    ----------
    kind
        "stacks" or "engines".
    record
        Name of the stack or engine that the row was predicted with.
    vendor
        Of the chip, for a record whose framework is not among those known here.
    to
        What the user asked for; None: what fits the record.

    Raises
    ------
    InputError
        For an unknown framework, or one of the other kind.
    """
    known: Mapping[str, Any] = TRAINERS if kind == "stacks" else SERVERS
    other: Mapping[str, Any] = SERVERS if kind == "stacks" else TRAINERS
    named = []
    if record in catalogue.names("stacks" if kind == "stacks" else "engines"):
        facts = catalogue.entry("stacks" if kind == "stacks" else "engines", record).facts
        named = [_OF_RECORDS.get(name, name) for name in facts["frameworks"]]
    own = next((name for name in named if name in known), None)
    if to is not None:
        asked = OTHER_NAMES.get(to, to)
        if asked in other:
            rule = "serves" if kind == "stacks" else "trains"
            raise problem("sweep export", "--to", f"{asked} {rule}, and the row does not", to,
                          "one of " + ", ".join(known))  # fmt: skip
        if asked not in known:
            raise problem("sweep export", "--to", "no framework of this name", to, nearest(to, [*known, *OTHER_NAMES]))
        return asked, asked == own or asked in named
    if own is not None:
        return own, True
    ascend = vendor.lower() == "huawei"
    return ("mindspeed-llm" if ascend else "megatron-lm") if kind == "stacks" else (
        "vllm-ascend" if ascend else "vllm"
    ), False  # fmt: skip


def launch(found: Explanation | ServedExplanation, origin: str, to: str | None = None) -> Launch:
    """The launch of an explained row or layout; `origin` says where it comes from."""
    training = isinstance(found, Explanation)
    record = found.stack.name if isinstance(found, Explanation) else found.engine.name
    vendor = str(catalogue.entry("chips", found.system.chip.name).facts.get("vendor", "")) \
        if found.system.chip.name in catalogue.names("chips") else ""  # fmt: skip
    name, own = framework("stacks" if training else "engines", record, vendor, to)
    made = (
        TRAINERS[name](training_job(found, origin))
        if isinstance(found, Explanation)
        else SERVERS[name](serving_job(found, origin))
    )
    remarks = list(made.remarks)
    if not own:
        remarks.insert(0, f"The row was predicted with {record}, which is not {made.framework}: expect another speed.")
    if not isinstance(found, Explanation) and set(found.costs) in ({"decode"}, {"prefill"}):
        (alone,) = found.costs
        other = "prompts" if alone == "decode" else "decoding"
        remarks.insert(0, f"Only {alone} was studied: limits of tokens and sequences leave {other} out.")
    maker = _ONLY_ON.get(name)
    if maker is not None and vendor and vendor.lower() != maker.lower():
        remarks.insert(0, f"{made.framework} runs on chips of {maker}, and {found.system.chip.name} is none.")
    broken = found.violations()
    if broken:
        remarks.insert(0, f"The layout does NOT run as it is: {over_text(broken)}.")
    from dataclasses import replace

    return replace(made, remarks=tuple(remarks))
