"""What the launches of all engines share: the words around their commands, and drafted tokens."""

from __future__ import annotations

from collections.abc import Sequence

from sweep.launch.arguments import Arguments, Command, Launch
from sweep.launch.jobs import InstanceJob, ServingJob
from sweep.launch.options import options

AS_STORED = ("bf16", "fp16")  # weights that are not quantised
ROUTED = "A router in front hands each request to a prefill and then to a decode instance."


def title(one: InstanceJob) -> str:
    """What a command starts, in a few words."""
    many = "1 instance" if one.count == 1 else f"{one.count} instances"
    return f"{many} for {one.kind}, each on {one.ranks} ranks."


def drafts(one: InstanceJob, job: ServingJob, found: Arguments) -> bool:
    """Whether the model's own modules draft tokens; says what is lacking where it has none to draft with."""
    if one.draft_tokens and not job.model.mtp_layers:
        found.lacks(f"{one.draft_tokens} drafted tokens of a model without prediction modules: name a draft model")
        return False
    return one.draft_tokens > 0


def quantised(number_format: str) -> str:
    """What to know of weights in a narrow format."""
    return f"Weights in {number_format}: MODEL must be a checkpoint in that format, unless the option quantises it " \
           "when loaded."  # fmt: skip


def launched(job: ServingJob, name: str, commands: Sequence[Command], everything: Arguments) -> Launch:
    """The launch of these commands, with what is lacking and what must be known, each said once."""
    known = options(name)
    return Launch(
        name, known.framework, known.release, known.source, job.described(), tuple(commands), {"MODEL": job.model.name},
        tuple(dict.fromkeys(everything.lacking)), tuple(dict.fromkeys(everything.remarks)),
    )  # fmt: skip
