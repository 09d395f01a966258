"""The two attention operators of MemMC-MAE and the transformer blocks around them.

Sources: Tian et al., "Unsupervised Anomaly Detection in Medical Images with a Memory-augmented Multi-level
Cross-attentional Masked Autoencoder", arXiv 2203.11725. The paper does not specify the operators in full; the details
follow the meshed-memory transformer on which they are based (Cornia et al., CVPR 2020, sections 3.1, 3.2).
Blocks are pre-norm, as in the masked autoencoder (He et al., CVPR 2022).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom.errors import NomalyError
from custom.networks.patches import take

NORMALISATIONS = {"sqrt": math.sqrt, "mean": float, "sum": lambda levels: 1.0}


class MemorySelfAttention(nn.Module):
    """Self-attention with learnable memory slots appended to keys and values (Cornia et al., equation 4).

    MSA(X) = Att(W_q X, [W_k X; sqrt(d) M_k], [W_v X; sqrt(m) M_v]), with m slots and d channels per head. The slots can
    store what healthy images have in common, independent of the input. Without slots this is standard attention.

    Args:
        dim: channels of the tokens.
        num_heads: heads, a divisor of ``dim``.
        slots: number m of memory slots; 0 = none.
    """

    def __init__(self, dim: int, num_heads: int, slots: int = 0) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        if slots < 0:
            raise NomalyError(f"memory_slots must be >= 0, got {slots}: 0 disables the memory.")
        self.num_heads = num_heads
        self.slots = slots
        self.qkv = linear(dim, 3 * dim)
        self.out = linear(dim, dim)
        if slots:
            self.memory_key = nn.Parameter(torch.randn(1, slots, dim) * num_heads / dim)
            self.memory_value = nn.Parameter(torch.randn(1, slots, dim) / slots)

    def forward(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Tokens (B, N, dim) -> (B, N, dim), or (B, R, dim) for those at the indices `rows` (B, R) only."""
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        if rows is not None:
            query = take(query, rows)
        if self.slots:
            head_dim = x.shape[-1] / self.num_heads
            key = join(key, math.sqrt(head_dim) * self.memory_key)
            value = join(value, math.sqrt(self.slots) * self.memory_value)
        query, key, value = (split_heads(part, self.num_heads) for part in (query, key, value))
        return self.out(merge_heads(F.scaled_dot_product_attention(query, key, value)))


class MultiLevelCrossAttention(nn.Module):
    """Gated sum of the cross-attentions to several levels of an encoder (Cornia et al., equations 6 to 8).

    MCA(Y) = sum_l alpha_l * E_l / c with E_l = Att(Y, X_l, X_l), projections shared by all levels, and an
    element-wise gate alpha_l = sigmoid(W_l [Y; E_l] + b_l) with separate weights for each level. With a single level
    the gate is omitted, which gives standard cross-attention (deviation: Cornia et al. would gate it too).

    Args:
        dim: channels of the queries Y.
        context_dim: channels of the levels X_l.
        num_heads: heads, a divisor of ``dim``.
        levels: number L of levels.
        normalisation: c, by name: "sqrt" = sqrt(L) (Cornia et al.), "mean" = L, "sum" = 1.
    """

    def __init__(self, dim: int, context_dim: int, num_heads: int, levels: int, normalisation: str = "sqrt") -> None:
        super().__init__()
        check_heads(dim, num_heads)
        if normalisation not in NORMALISATIONS:
            raise NomalyError(f"level_normalisation must be one of {', '.join(NORMALISATIONS)}, got {normalisation!r}.")
        self.num_heads = num_heads
        self.levels = levels
        self.divisor = NORMALISATIONS[normalisation](levels)
        self.query = linear(dim, dim)
        self.key_value = linear(context_dim, 2 * dim)
        self.out = linear(dim, dim)
        if levels > 1:
            # the two halves of W_l, for Y and for E_l
            self.gate_query = nn.Parameter(stacked_xavier(levels, dim))
            self.gate_level = nn.Parameter(stacked_xavier(levels, dim))
            self.gate_bias = nn.Parameter(torch.zeros(levels, 1, dim))

    def forward(self, y: Tensor, context: Tensor) -> Tensor:
        """Queries (B, N, dim) and levels (L, B, V, context_dim) -> (B, N, dim)."""
        attended = self.attend(y, context)
        if self.levels == 1:
            return attended[0]
        return (self.gates(y, attended) * attended).sum(0) / self.divisor

    def attend(self, y: Tensor, context: Tensor) -> Tensor:
        """E_l of all levels, (L, B, N, dim)."""
        query = split_heads(self.query(y), self.num_heads).repeat(self.levels, 1, 1, 1)
        key, value = (
            split_heads(part, self.num_heads) for part in self.key_value(context).flatten(0, 1).chunk(2, dim=-1)
        )
        attended = merge_heads(F.scaled_dot_product_attention(query, key, value))
        return self.out(attended).unflatten(0, context.shape[:2])

    def gates(self, y: Tensor, attended: Tensor) -> Tensor:
        """alpha_l in (0, 1) of all levels, (L, B, N, dim)."""
        y, levels = y.flatten(0, 1).expand(self.levels, -1, -1), attended.flatten(1, 2)
        logits = torch.baddbmm(torch.baddbmm(self.gate_bias, y, self.gate_query), levels, self.gate_level)
        return torch.sigmoid(logits).view_as(attended)


class EncoderBlock(nn.Module):
    """Transformer block with memory-augmented self-attention.

    Args:
        dim: channels of the tokens.
        num_heads: heads of the attention.
        mlp_ratio: width of the MLP in units of ``dim``.
        memory_slots: memory slots of the attention; 0 = standard block.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0, memory_slots: int = 0) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = MemorySelfAttention(dim, num_heads, memory_slots)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = mlp(dim, mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, dim) -> (B, N, dim)."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class DecoderBlock(nn.Module):
    """Transformer block with self-attention and multi-level cross-attention.

    Args:
        dim: channels of the tokens.
        context_dim: channels of the encoder's levels.
        num_heads: heads of both attentions.
        mlp_ratio: width of the MLP in units of ``dim``.
        levels: number of encoder levels attended to; 1 = standard decoder block, 0 = block of the masked autoencoder,
            with self-attention only.
        level_normalisation: see :class:`MultiLevelCrossAttention`.
    """

    def __init__(
        self,
        dim: int,
        context_dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        levels: int = 1,
        level_normalisation: str = "sqrt",
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = MemorySelfAttention(dim, num_heads)
        self.levels = levels
        if levels:
            self.cross_norm = nn.LayerNorm(dim)
            self.cross_attention = MultiLevelCrossAttention(dim, context_dim, num_heads, levels, level_normalisation)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = mlp(dim, mlp_ratio)

    def forward(self, y: Tensor, context: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
        """Tokens (B, N, dim) and, with ``levels`` > 0, encoder levels (L, B, V, context_dim) -> (B, N, dim).

        With the indices `rows` (B, R), only the tokens there are computed, (B, R, dim); they attend to all.
        """
        y = (y if rows is None else take(y, rows)) + self.attention(self.attention_norm(y), rows)
        if self.levels:
            y = y + self.cross_attention(self.cross_norm(y), context)
        return y + self.mlp(self.mlp_norm(y))


def mlp(dim: int, ratio: float) -> nn.Sequential:
    """Two linear layers with a GELU between them."""
    hidden = round(dim * ratio)
    return nn.Sequential(linear(dim, hidden), nn.GELU(), linear(hidden, dim))


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Linear layer, initialised with Xavier-uniform weights and a bias of zero."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def stacked_xavier(count: int, dim: int) -> Tensor:
    """Xavier-uniform weights (count, dim, dim), each one half of a layer with 2 * dim input channels."""
    bound = math.sqrt(6 / (3 * dim))
    return torch.empty(count, dim, dim).uniform_(-bound, bound)


def join(tokens: Tensor, slots: Tensor) -> Tensor:
    """(B, N, D) tokens and (1, m, D) slots -> (B, N + m, D)."""
    return torch.cat([tokens, slots.to(tokens.dtype).expand(tokens.shape[0], -1, -1)], dim=1)


def split_heads(tokens: Tensor, num_heads: int) -> Tensor:
    """(B, N, D) -> (B, heads, N, D / heads)."""
    return tokens.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(heads: Tensor) -> Tensor:
    """(B, heads, N, D / heads) -> (B, N, D)."""
    return heads.transpose(1, 2).flatten(2)


def check_heads(dim: int, num_heads: int) -> None:
    """Reject a number of heads that does not divide the channels."""
    if num_heads < 1 or dim % num_heads:
        raise NomalyError(f"num_heads must be a divisor of the {dim} token channels, got {num_heads}.")
