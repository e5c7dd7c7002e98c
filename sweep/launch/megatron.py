"""Arguments of Megatron-LM, and those that MindSpeed-LLM shares with it.

The layers of every pipeline stage are named where they do not divide evenly; a step's cost is that of the split in
model/stages.py.
"""

from __future__ import annotations

from model.architecture import Architecture
from sweep.launch.arguments import Arguments, Command, Launch
from sweep.launch.jobs import TrainingJob
from sweep.launch.options import options

# Modules that Megatron-Core computes anew, by the names of model/layout.py.
RECOMPUTED = {
    "core_attention": "core_attn",
    "norm": "layernorm",
    "mla_up_projection": "mla_up_proj",
    "activation": "moe_act",
    "feed_forward": "mlp",
    "experts": "moe",
    "shared_experts": "shared_experts",
}
_FP8_RECIPES = {"fp8": "tensorwise", "mxfp8": "mxfp8"}
_LEFT_OUT = (
    "Left to you, as no record of the model holds it: normalisation, position embedding, biases, tokenizer, data, "
    "learning rate, checkpoints. Append them to the script; without data of your own it measures on mock data."
)


def model_arguments(job: TrainingJob, found: Arguments) -> None:
    """Shapes that both take alike."""
    model = job.model
    found.set("--num-layers", model.layers)
    found.set("--hidden-size", model.hidden)
    if model.feed_forward:
        found.set("--ffn-hidden-size", model.feed_forward)
    found.set("--num-attention-heads", model.heads)
    if model.latent is None:
        found.set("--kv-channels", model.head_size)
        if model.key_value_heads != model.heads:
            found.set("--group-query-attention")
            found.set("--num-query-groups", model.key_value_heads)
    else:
        found.set("--multi-latent-attention")
        found.when(model.latent.query_rank, "--q-lora-rank", model.latent.query_rank)
        found.set("--kv-lora-rank", model.latent.key_value_rank)
        found.set("--qk-head-dim", model.latent.nope_head)
        found.set("--qk-pos-emb-head-dim", model.latent.rope_head)
        found.set("--v-head-dim", model.latent.value_head)
    found.when(model.gated, "--swiglu")
    found.when(not model.tied_embeddings, "--untie-embeddings-and-output-weights")
    if not model.dropout:
        found.set("--attention-dropout", 0.0)
        found.set("--hidden-dropout", 0.0)
    if model.experts is not None:
        found.set("--num-experts", model.experts.experts)
        found.set("--moe-router-topk", model.experts.per_token)
        found.set("--moe-ffn-hidden-size", model.experts.hidden)
        found.set("--moe-grouped-gemm")
        shared = model.experts.shared_width
        found.when(shared, "--moe-shared-expert-intermediate-size", shared)
    found.when(model.mtp_layers, "--mtp-num-layers", model.mtp_layers)
    found.set("--vocab-size", model.vocabulary)
    found.set("--seq-length", job.sequence)
    found.set("--max-position-embeddings", job.sequence)
    unknown_to(model, found)


def unknown_to(model: Architecture, found: Arguments) -> None:
    """Say which parts of a model no trainer here has."""
    if model.low_rank is not None:
        found.lacks("low-rank output projections in groups of heads")
    if model.residual_streams > 1:
        found.lacks(f"hyper-connections of {model.residual_streams} residual streams")
    if model.parallel_blocks:
        found.lacks("attention and feed-forward beside each other")
    if model.sparse is not None and (model.sparse.compression > 1 or model.sparse.every > 1):
        found.lacks("sparse attention over a compressed cache, or in some layers only")


def parallelism(job: TrainingJob, found: Arguments) -> None:
    """Degrees, batches, the sharded optimizer and its overlaps."""
    layout = job.layout
    found.set("--tensor-model-parallel-size", int(layout.tensor_parallel))
    found.set("--pipeline-model-parallel-size", int(layout.pipeline_parallel))
    found.set("--context-parallel-size", int(layout.context_parallel))
    if job.model.experts is not None:
        found.set("--expert-model-parallel-size", int(layout.expert_parallel))
        found.set("--expert-tensor-parallel-size", int(layout.expert_tensor_parallel))
    found.when(int(layout.sequence_parallel), "--sequence-parallel")
    found.when(job.rank_order == "tp-cp-pp-dp", "--use-tp-pp-dp-mapping")
    found.set("--micro-batch-size", int(layout.micro_batch))
    found.set("--global-batch-size", int(layout.global_batch))
    zero = int(layout.zero_stage)
    found.when(zero >= 1, "--use-distributed-optimizer")
    if job.stack.gradient_overlap > 0 and job.overlaps("data"):
        found.set("--overlap-grad-reduce")
        found.when(zero >= 1, "--overlap-param-gather")
    found.when(job.stack.gradient_wire_bytes <= 2, "--grad-reduce-in-bf16")


def number_format(job: TrainingJob, found: Arguments, fp4: bool) -> None:
    """Of the matmuls."""
    name = job.number_format
    found.set("--fp16" if name == "fp16" else "--bf16")
    if name in _FP8_RECIPES:
        found.set("--fp8-format", "hybrid" if name == "fp8" else "e4m3")
        found.set("--fp8-recipe", _FP8_RECIPES[name])
    elif name == "nvfp4" and fp4:
        found.set("--fp4-format", "e2m1")
    elif name not in ("bf16", "fp16"):
        found.lacks(f"matmuls in {name}; the script trains in bf16")


def lost_schedule(job: TrainingJob, found: Arguments, known: tuple[str, ...]) -> None:
    """Say which schedule is lost; the framework runs 1F1B, interleaved with several chunks."""
    if int(job.layout.pipeline_parallel) > 1 and job.schedule not in ("1f1b", "interleaved", *known):
        found.lacks(f"the pipeline schedule {job.schedule}; the script runs 1F1B")


def balanced(job: TrainingJob, found: Arguments) -> None:
    """Say that the stack places layers by their times."""
    if job.stack.balanced_stages and int(job.layout.pipeline_parallel) > 1:
        found.remark(
            f"Stack {job.stack.name} evens the times of the stages out: embedding, head and prediction modules count "
            "as layers. The split given here is by layers; move layers away from the ends as memory allows."
        )


def measuring(job: TrainingJob, found: Arguments) -> None:
    """What a run on mock data needs besides."""
    found.set("--mock-data")
    found.set("--tokenizer-type", "NullTokenizer")
    found.set("--train-iters", 20)
    found.set("--lr", 1e-4)
    found.remark(_LEFT_OUT)


def launched(job: TrainingJob, name: str, found: Arguments) -> Launch:
    """The launch of these arguments on every host."""
    known = options(name)
    program = (
        'torchrun --nnodes "$NNODES" --nproc-per-node "$NPROC_PER_NODE" --node-rank "$NODE_RANK" '
        '--master-addr "$MASTER_ADDR" --master-port "$MASTER_PORT" pretrain_gpt.py'
    )
    return Launch(
        name, known.framework, known.release, known.source, job.described(),
        (Command("On every host, with its own NODE_RANK.", program, found.given),),
        rendezvous(job), tuple(found.lacking), tuple(found.remarks),
    )  # fmt: skip


def rendezvous(job: TrainingJob) -> dict[str, str]:
    """Variables by which the hosts of a training job meet."""
    return {
        "NNODES": str(job.nodes),
        "NPROC_PER_NODE": str(job.per_node),
        "NODE_RANK": "0",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "6000",
    }


# ---------------------------------------------------------------------------------------------------- Megatron-LM
def stage_layout(job: TrainingJob) -> str:
    """Layers of every chunk as Megatron-Core writes a layout: embedding E, layers t, prediction m, loss L."""
    chunks = ["t" * layers for layers in job.chunk_layers]
    chunks[0] = f"E{chunks[0]}"
    chunks[-1] += "m" * job.model.mtp_layers + "L"
    return "|".join(chunks)


def megatron_recompute(job: TrainingJob, found: Arguments) -> tuple[str, ...]:
    """Modules to compute anew, by Megatron-Core's names; says which it has not."""
    modules = []
    for name in job.recompute:
        dense = job.model.experts is None
        if name == "activation" and dense:
            found.lacks("recomputation of the activation of a dense feed-forward alone")
        elif name in ("experts", "shared_experts") and dense:
            continue
        elif name not in RECOMPUTED:
            found.lacks(f"recomputation of {name} alone")
        else:
            modules.append(RECOMPUTED[name])
    if "moe" in modules:
        found.remark("Recomputing `moe` covers shared experts and the router too.")
    return tuple(modules)


def megatron_lm(job: TrainingJob) -> Launch:
    """Launch with Megatron-LM."""
    found = Arguments()
    model_arguments(job, found)
    _megatron_layers(job, found)
    parallelism(job, found)
    _megatron_stages(job, found)
    _megatron_memory(job, found)
    model, layout = job.model, job.layout
    overlapped = job.stack.tensor_overlap > 0 and job.overlaps("tensor")
    found.when(overlapped and int(layout.sequence_parallel), "--tp-comm-overlap")
    if model.experts is not None and job.stack.expert_overlap > 0 and job.overlaps("expert"):
        found.when(int(layout.expert_parallel) > 1, "--overlap-moe-expert-parallel-comm")
    found.when(job.stack.parameter_wire_bytes < 2 and job.number_format in _FP8_RECIPES, "--fp8-param-gather")
    number_format(job, found, fp4=True)
    lost_schedule(job, found, ())
    balanced(job, found)
    measuring(job, found)
    return launched(job, "megatron-lm", found)


def _megatron_layers(job: TrainingJob, found: Arguments) -> None:
    """Which layers are mixtures, see a window, or pick their keys."""
    model = job.model
    if model.experts is not None:
        mixture, every = model.experts, model.experts.every
        layers = [
            int(n >= mixture.dense_layers and (n - mixture.dense_layers + 1) % every == 0) for n in range(model.layers)
        ]
        found.when(0 in layers, "--moe-layer-freq", _pattern(layers))
        flexible = job.stack.dispatch != "all_to_all"
        found.set("--moe-token-dispatcher-type", "flex" if flexible else "alltoall")
        found.when(flexible, "--moe-flex-dispatcher-backend", "deepep")
    if model.window:
        found.set("--window-size", f"{model.window - 1},0")
        every = model.full_attention_every  # 1: no layer sees everything; Megatron would take it for all of them
        found.when(1 < every <= model.layers, "--window-attn-skip-freq", every)
    if model.sparse is not None:
        found.set("--experimental-attention-variant", "dsa")
        found.set("--dsa-indexer-n-heads", model.sparse.index_heads)
        found.set("--dsa-indexer-head-dim", model.sparse.index_head)
        found.set("--dsa-indexer-topk", model.sparse.keys)


def _megatron_stages(job: TrainingJob, found: Arguments) -> None:
    """Model chunks of the stages, the exchange of contexts, and sharding of more than the optimizer."""
    layout = job.layout
    if int(layout.pipeline_parallel) > 1 and len(set(job.chunk_layers)) > 1:
        found.set("--pipeline-model-parallel-layout", stage_layout(job))
    elif int(layout.virtual_stages) > 1:
        found.set("--num-virtual-stages-per-pipeline-rank", int(layout.virtual_stages))
    if int(layout.context_parallel) > 1:
        found.set("--cp-comm-type", "a2a" if job.context_exchange == "all_to_all" else "p2p")
    if int(layout.zero_stage) >= 2:
        found.set("--use-megatron-fsdp")
        stage = "optim_grads_params" if int(layout.zero_stage) == 3 else "optim_grads"
        found.set("--data-parallel-sharding-strategy", stage)
        found.set("--ckpt-format", "fsdp_dtensor")


def _megatron_memory(job: TrainingJob, found: Arguments) -> None:
    """Recomputation and offloading."""
    if "full" in job.recompute:
        found.set("--recompute-granularity", "full")
        found.set("--recompute-method", "uniform")
        found.set("--recompute-num-layers", 1)
    elif modules := megatron_recompute(job, found):
        found.set("--recompute-granularity", "selective")
        found.set("--recompute-modules", modules)
    if "optimizer" in job.offload:
        found.set("--optimizer-cpu-offload")
        found.set("--optimizer-offload-fraction", 1.0)
        found.set("--use-precision-aware-optimizer")
    if "activations" in job.offload:
        found.set("--fine-grained-activation-offloading")
        found.set("--offload-modules", offloaded_modules(job.model))
        found.remark("Activations leave module by module, not the whole of a layer as predicted.")


def offloaded_modules(model: Architecture) -> tuple[str, ...]:
    """Modules whose inputs leave for the host."""
    return ("core_attn", "attn_proj", *(("expert_fc1", "moe_act") if model.experts else ()))


def _pattern(layers: list[int]) -> str:
    """Dense (0) and mixture (1) layers as the list expression that Megatron reads, as in "([0]*3+[1]*58)"."""
    runs: list[list[int]] = []
    for kind in layers:
        if runs and runs[-1][0] == kind:
            runs[-1][1] += 1
        else:
            runs.append([kind, 1])
    return "(" + "+".join(f"[{kind}]*{count}" for kind, count in runs) + ")"
