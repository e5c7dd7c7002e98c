"""What the parts of time, memory and energy are, in words: for the columns of the data set and under charts.

Communication counts where it shows: what hides behind compute takes no time.
"""

from __future__ import annotations

from collections.abc import Mapping

TIME: Mapping[str, str] = {
    "compute": "matmuls, attention and vector kernels of the busiest stage, recomputation with them",
    "tensor": "collectives of tensor parallelism",
    "context": "exchange of context parallelism",
    "expert": "tokens sent to their experts and back",
    "host": "launches and synchronisation",
    "offload": "transfers to and from the host's memory",
    "fixed": "what every step takes, whatever its size",
    "transfer": "activations from stage to stage",
    "bubble": "stages that wait for others",
    "optimizer": "the optimizer's update",
    "data": "gradients and parameters between replicas",
    "linear": "projections, dense feed-forward layers and the head",
    "attention": "attention over the cache of keys and values",
    "experts": "routed and shared experts and their router",
    "vector": "norms, rotary embeddings, activations and quantisation",
    "exchange": "tokens sent to their experts and back",
}
MEMORY: Mapping[str, str] = {
    "weights": "parameters, as the kernels read them",
    "gradients": "gradients of the parameters",
    "optimizer": "the optimizer's states and its own copy of the parameters",
    "logits": "scores over the vocabulary and their gradients",
    "buffers": "working space, gathered weights, communication",
    "activations": "what the forward pass keeps for the backward pass",
    "base": "context of the device, kernels and libraries",
    "kv_cache": "keys and values of the sequences in flight",
}
ENERGY: Mapping[str, str] = {
    "matrix": "arithmetic of matmuls and attention",
    "hbm": "traffic of the chips' memory",
    "link": "the chips' links",
    "idle": "the chips' power at rest over the step",
    "host": "processors, boards and storage of the hosts",
    "network": "switches, optics and network cards",
    "conversion": "losses of the power supplies",
    "cooling": "fans, pumps and the building's overhead",
}
OF: Mapping[str, Mapping[str, str]] = {"time": TIME, "memory": MEMORY, "energy": ENERGY}
