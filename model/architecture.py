"""The transformer whose step is costed: shapes only, no weights.

Shapes follow the published configuration files of the models; the layer structure is that of Megatron-Core
(megatron/core/models/gpt). Parameter counts are exact for the matrices, and count norms and biases only where they
matter (they do not change a published count's third digit).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (MLA): low-rank queries and keys/values. Source: DeepSeek-V2, arXiv:2405.04434."""

    query_rank: int  # q_lora_rank; 0: queries come straight from the hidden state
    key_value_rank: int  # kv_lora_rank
    nope_head: int  # query/key head size without position
    rope_head: int  # query/key head size with rotary position, the key part shared by all heads
    value_head: int


@dataclass(frozen=True, slots=True)
class SparseAttention:
    """Attention over the keys that a small indexer picks. Source: DeepSeek-V3.2-Exp, arXiv:2512.02556."""

    keys: int  # that the indexer picks for a query at most
    index_heads: int
    index_head: int  # size of the indexer's heads, one key of which is cached for each entry, in 8 bits
    window: int = 0  # latest tokens that are attended to besides
    compression: int = 1  # tokens that an entry of the cache stands for
    every: int = 1  # one layer of so many picks; the others attend to all of a coarser summary
    summary: int = 1  # tokens that an entry of that summary stands for

    @property
    def picking(self) -> float:
        """Share of the layers with an indexer."""
        return 1.0 / self.every


@dataclass(frozen=True, slots=True)
class LowRankProjections:
    """Queries and outputs of attention through low ranks, outputs in groups of heads. Source: DeepSeek-V4 (2026)."""

    query_rank: int
    output_rank: int
    output_groups: int


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture-of-experts feed-forward. Source: DeepSeekMoE, arXiv:2401.06066; Switch, arXiv:2101.03961."""

    experts: int  # routed experts of a layer
    per_token: int  # routed experts that a token visits
    hidden: int  # width of one routed expert
    shared: int = 0  # shared experts, always active
    shared_hidden: int = 0  # width of one shared expert; 0: as `hidden`
    dense_layers: int = 0  # leading layers that keep a dense feed-forward
    every: int = 1  # one layer of `every` is a mixture (the others dense), after the leading dense ones
    biases: bool = False  # each expert adds its own to what it puts out
    clamped: bool = False  # inputs of the activation are held within bounds

    @property
    def shared_width(self) -> int:
        """Total width of the shared experts."""
        return self.shared * (self.shared_hidden or self.hidden)


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder-only transformer. Counts are integers; sizes are elements."""

    name: str
    layers: int
    hidden: int
    heads: int
    key_value_heads: int
    head_size: int
    feed_forward: int  # width of the dense feed-forward
    vocabulary: int
    gated: bool = True  # SwiGLU: three matrices instead of two
    tied_embeddings: bool = False
    latent: LatentAttention | None = None
    experts: Experts | None = None
    mtp_layers: int = 0  # multi-token-prediction modules, each a layer, a projection and the shared head
    dropout: bool = False
    window: int = 0  # sliding-window attention span in tokens; 0: none
    full_attention_every: int = 1  # with a window: one layer of so many has none; 1: every layer has it
    norms_per_layer: int = 2
    sparse: SparseAttention | None = None
    low_rank: LowRankProjections | None = None  # of attention that is not latent; of serving
    residual_streams: int = 1  # hyper-connections mix so many; of serving
    parallel_blocks: bool = False  # attention and feed-forward beside each other, joined once; of serving

    # ------------------------------------------------------------------ layers
    @property
    def moe_layers(self) -> int:
        """Layers with routed experts."""
        if self.experts is None:
            return 0
        return (self.layers - self.experts.dense_layers) // self.experts.every

    @property
    def dense_layers(self) -> int:
        """Layers with a dense feed-forward."""
        return self.layers - self.moe_layers

    # -------------------------------------------------------------- attention
    @property
    def query_key_head(self) -> int:
        """Size of a query/key head as attention sees it in training and prefill."""
        return self.head_size if self.latent is None else self.latent.nope_head + self.latent.rope_head

    @property
    def value_head(self) -> int:
        """Size of a value head."""
        return self.head_size if self.latent is None else self.latent.value_head

    # -------------------------------------------------------------- parameters
    @property
    def attention_parameters(self) -> int:
        """Weights of one layer's attention."""
        if self.low_rank is not None:
            query, out, width = self.low_rank.query_rank, self.low_rank.output_rank, self.heads * self.head_size
            through = query * (self.hidden + width) + out * (width + self.low_rank.output_groups * self.hidden)
            return through + 2 * self.hidden * self.head_size * self.key_value_heads
        if self.latent is None:
            return self.hidden * self.head_size * (2 * self.heads + 2 * self.key_value_heads)
        m = self.latent
        if m.query_rank:
            query = self.hidden * m.query_rank + m.query_rank * self.heads * (m.nope_head + m.rope_head)
        else:
            query = self.hidden * self.heads * (m.nope_head + m.rope_head)
        down = self.hidden * (m.key_value_rank + m.rope_head)
        up = m.key_value_rank * self.heads * (m.nope_head + m.value_head)
        return query + down + up + self.heads * m.value_head * self.hidden

    @property
    def matrices(self) -> int:
        """Matrices of a feed-forward: 3 gated, 2 plain."""
        return 3 if self.gated else 2

    @property
    def dense_feed_forward_parameters(self) -> int:
        """Weights of one dense feed-forward."""
        return self.matrices * self.hidden * self.feed_forward

    @property
    def expert_parameters(self) -> int:
        """Weights of one routed expert."""
        return 0 if self.experts is None else self.matrices * self.hidden * self.experts.hidden

    @property
    def shared_parameters(self) -> int:
        """Weights of a mixture layer outside the routed experts and the attention: shared experts and router."""
        if self.experts is None:
            return 0
        return self.matrices * self.hidden * self.experts.shared_width + self.hidden * self.experts.experts

    @property
    def embedding_parameters(self) -> int:
        """Weights of the token embedding and, where untied, the output head."""
        return self.vocabulary * self.hidden * (1 if self.tied_embeddings else 2)

    @property
    def parameters(self) -> int:
        """Weights of the whole model without multi-token-prediction modules."""
        return self._with_routed(self.experts.experts if self.experts else 0)

    @property
    def active_parameters(self) -> int:
        """Weights that one token passes through, embedding included as published counts do."""
        return self._with_routed(self.experts.per_token if self.experts else 0)

    def _with_routed(self, experts: int) -> int:
        """Weights with so many routed experts in each mixture layer."""
        return (
            self.layers * self.attention_parameters
            + self.dense_layers * self.dense_feed_forward_parameters
            + self.moe_layers * (self.shared_parameters + experts * self.expert_parameters)
            + self.embedding_parameters
        )
