"""provisional."""

from model.collective import all_to_all, collective, place


def all_reduce(system, bytes_, group, stride=1):
    return collective(system, "all_reduce", bytes_, place(system, group, stride))


def all_gather(system, bytes_, group, stride=1):
    return collective(system, "all_gather", bytes_, place(system, group, stride))


def reduce_scatter(system, bytes_, group, stride=1):
    return collective(system, "reduce_scatter", bytes_, place(system, group, stride))


def expert_exchange(system, tokens, row_bytes, experts, ep, etp):
    return all_to_all(system, tokens * row_bytes * experts.per_token, place(system, ep, etp))
