"""The attention operators against references in float64 NumPy, and the blocks against those of torch."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import nn

from custom.errors import NomalyError
from custom.networks.attention import (
    DecoderBlock,
    EncoderBlock,
    MemorySelfAttention,
    MultiLevelCrossAttention,
    stacked_xavier,
)

DIM, CONTEXT, HEADS = 8, 6, 2
B, N, V = 2, 5, 3


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def scrambled(module: nn.Module) -> nn.Module:
    """The module in double precision, with no parameter left at a value that might hide it (bias 0, scale 1)."""
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


# (1) Operators --------------------------------------------------------------------------------------------------------


def attend(query: np.ndarray, key: np.ndarray, value: np.ndarray, heads: int) -> np.ndarray:
    """softmax(Q K^T / sqrt(d)) V of one image, (N, D) and twice (M, D) -> (N, D), head by head and query by query."""
    d = query.shape[1] // heads
    out = np.zeros_like(query)
    for h in range(heads):
        part = slice(h * d, (h + 1) * d)
        for i in range(len(query)):
            weights = np.exp([query[i, part] @ k / math.sqrt(d) for k in key[:, part]])
            out[i, part] = sum(w * v for w, v in zip(weights / weights.sum(), value[:, part], strict=True))
    return out


def memory_self_attention(module: MemorySelfAttention, x: np.ndarray) -> np.ndarray:
    """Equation 4 of Cornia et al. for one image (N, D); the slots join after the projections."""
    (w_q, w_k, w_v), (b_q, b_k, b_v) = (np.split(array(p), 3) for p in (module.qkv.weight, module.qkv.bias))
    query, key, value = x @ w_q.T + b_q, x @ w_k.T + b_k, x @ w_v.T + b_v
    if module.slots:
        m, d = module.slots, x.shape[1] // module.num_heads
        key = np.concatenate([key, math.sqrt(d) * array(module.memory_key)[0]])
        value = np.concatenate([value, math.sqrt(m) * array(module.memory_value)[0]])
    return attend(query, key, value, module.num_heads) @ array(module.out.weight).T + array(module.out.bias)


def cross_attention(module: MultiLevelCrossAttention, y: np.ndarray, level: np.ndarray) -> np.ndarray:
    """E_l of one image: queries (N, D), one level (V, D')."""
    (w_k, w_v), (b_k, b_v) = (np.split(array(p), 2) for p in (module.key_value.weight, module.key_value.bias))
    query = y @ array(module.query.weight).T + array(module.query.bias)
    attended = attend(query, level @ w_k.T + b_k, level @ w_v.T + b_v, module.num_heads)
    return attended @ array(module.out.weight).T + array(module.out.bias)


def multi_level_cross_attention(module: MultiLevelCrossAttention, y: np.ndarray, levels: np.ndarray, c: float):
    """Equations 6 to 8 of Cornia et al. for one image."""
    total = np.zeros_like(y)
    for index, level in enumerate(levels):
        attended = cross_attention(module, y, level)
        weight = np.concatenate([array(module.gate_query)[index], array(module.gate_level)[index]])  # of [Y; E_l]
        logits = np.concatenate([y, attended], axis=1) @ weight + array(module.gate_bias)[index]
        total += attended / (1 + np.exp(-logits))
    return total / c


@pytest.mark.parametrize("slots", [0, 1, 4])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_memory_self_attention_equals_its_equation(heads: int, slots: int) -> None:
    module, x = scrambled(MemorySelfAttention(DIM, heads, slots)), rand(B, N, DIM)
    expected = [memory_self_attention(module, image) for image in array(x)]
    np.testing.assert_allclose(array(module(x)), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("normalisation", "c"), [("sqrt", math.sqrt(3)), ("mean", 3), ("sum", 1)])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_multi_level_cross_attention_equals_its_equation(heads: int, normalisation: str, c: float) -> None:
    module = scrambled(MultiLevelCrossAttention(DIM, CONTEXT, heads, 3, normalisation))
    y, context = rand(B, N, DIM), rand(3, B, V, CONTEXT)
    expected = [multi_level_cross_attention(module, array(y)[b], array(context)[:, b], c) for b in range(B)]
    np.testing.assert_allclose(array(module(y, context)), expected, rtol=0, atol=1e-10)


def test_one_level_is_cross_attention_without_a_gate_or_divisor() -> None:
    module = scrambled(MultiLevelCrossAttention(DIM, CONTEXT, HEADS, 1))
    y, context = rand(B, N, DIM), rand(1, B, V, CONTEXT)
    expected = [cross_attention(module, array(y)[b], array(context)[0, b]) for b in range(B)]
    np.testing.assert_allclose(array(module(y, context)), expected, rtol=0, atol=1e-10)
    assert not any(name.startswith("gate") for name, _ in module.named_parameters())


@pytest.mark.parametrize("levels", [0, 3])
def test_block_computes_the_chosen_rows_as_among_all(levels: int) -> None:
    block = scrambled(DecoderBlock(DIM, CONTEXT, HEADS, levels=levels))
    y, context, rows = rand(B, N, DIM), rand(3, B, V, CONTEXT), torch.tensor([[4, 0], [1, 2]])
    expected = torch.stack([full[chosen] for full, chosen in zip(block(y, context), rows)])
    torch.testing.assert_close(block(y, context, rows), expected, rtol=0, atol=1e-12)


def test_without_slots_it_is_multi_head_attention_of_torch() -> None:
    module, theirs = scrambled(MemorySelfAttention(DIM, HEADS)), nn.MultiheadAttention(DIM, HEADS, batch_first=True)
    copy_self_attention(module, theirs.double())
    x = rand(B, N, DIM)
    torch.testing.assert_close(module(x), theirs(x, x, x)[0], rtol=0, atol=1e-10)
    assert not any(name.startswith("memory") for name, _ in module.named_parameters())


# (2) Memory -----------------------------------------------------------------------------------------------------------


def test_memory_starts_at_the_scales_of_the_meshed_memory_transformer() -> None:
    dim, heads, slots = 32, 4, 10_000
    module = MemorySelfAttention(dim, heads, slots)
    key, value = module.memory_key, module.memory_value
    assert key.shape == value.shape == (1, slots, dim)
    # Standard deviations 1 / d_k and 1 / m, so that the joined rows have 1 / sqrt(d_k) and 1 / sqrt(m).
    assert key.std().item() == pytest.approx(1 / 8, rel=0.01)
    assert value.std().item() == pytest.approx(1 / slots, rel=0.01)
    for memory in (key, value):
        assert abs(memory.mean().item()) < 0.01 * memory.std().item()


def test_memory_learns() -> None:
    module = MemorySelfAttention(DIM, HEADS, 3)
    module(torch.randn(B, N, DIM)).square().sum().backward()
    assert (module.memory_key.grad.abs().amax(-1) > 0).all()
    assert (module.memory_value.grad.abs().amax(-1) > 0).all()


def test_order_of_the_slots_does_not_matter() -> None:
    module, x = scrambled(MemorySelfAttention(DIM, HEADS, 4)), rand(B, N, DIM)
    before = module(x)
    for memory in (module.memory_key, module.memory_value):
        memory.data = memory.data[:, [2, 0, 3, 1]]
    torch.testing.assert_close(module(x), before, rtol=0, atol=1e-12)


# (3) Gates ------------------------------------------------------------------------------------------------------------


def test_closed_gate_removes_its_level() -> None:
    module = scrambled(MultiLevelCrossAttention(DIM, CONTEXT, HEADS, 3, "sum"))
    y, context = rand(B, N, DIM), rand(3, B, V, CONTEXT)
    before = module(y, context)
    changed = context.clone()
    changed[1] = rand(B, V, CONTEXT)
    assert (module(y, changed) - before).abs().max() > 0.01
    module.gate_bias.data[1] = -1e4
    closed = module(y, context)
    assert (closed - before).abs().max() > 0.01
    assert torch.equal(module(y, changed), closed)


@pytest.mark.parametrize(("normalisation", "c"), [("sqrt", math.sqrt(3)), ("mean", 3), ("sum", 1)])
def test_open_gates_give_the_plain_sum_over_the_normalisation(normalisation: str, c: float) -> None:
    module = scrambled(MultiLevelCrossAttention(DIM, CONTEXT, HEADS, 3, normalisation))
    module.gate_bias.data.fill_(1e4)
    y, context = rand(B, N, DIM), rand(3, B, V, CONTEXT)
    expected = [sum(cross_attention(module, array(y)[b], array(context)[i, b]) for i in range(3)) / c for b in range(B)]
    np.testing.assert_allclose(array(module(y, context)), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", list(permutations(range(3)))[1:])
def test_levels_permuted_with_their_gates_change_nothing(order: tuple[int, ...]) -> None:
    module = scrambled(MultiLevelCrossAttention(DIM, CONTEXT, HEADS, 3))
    y, context = rand(B, N, DIM), rand(3, B, V, CONTEXT)
    before = module(y, context)
    permuted = context[list(order)]
    assert (module(y, permuted) - before).abs().max() > 1e-3  # each level has a gate of its own
    for gate in (module.gate_query, module.gate_level, module.gate_bias):
        gate.data = gate.data[list(order)]
    torch.testing.assert_close(module(y, permuted), before, rtol=0, atol=1e-12)


def test_gates_start_half_open_on_average_with_xavier_weights_of_both_halves() -> None:
    module = MultiLevelCrossAttention(DIM, CONTEXT, HEADS, 2)
    assert module.gate_bias.count_nonzero() == 0
    reference = nn.init.xavier_uniform_(torch.empty(64, 128))  # of [Y; E_l] to the gate
    weights = stacked_xavier(3, 64)
    assert weights.shape == (3, 64, 64)
    assert weights.std().item() == pytest.approx(reference.std().item(), rel=0.03)
    assert weights.abs().max().item() == pytest.approx(reference.abs().max().item(), rel=0.01)


# (4) Blocks -----------------------------------------------------------------------------------------------------------


def copy(ours: nn.Module, theirs: nn.Module) -> None:
    """Weight and bias of a linear layer or a norm."""
    theirs.load_state_dict(ours.state_dict(), strict=True)


def copy_self_attention(ours: MemorySelfAttention, theirs: nn.MultiheadAttention) -> None:
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    copy(ours.out, theirs.out_proj)


def copy_cross_attention(ours: MultiLevelCrossAttention, theirs: nn.MultiheadAttention) -> None:
    w_k, w_v = ours.key_value.weight.data.chunk(2)
    theirs.q_proj_weight.data, theirs.k_proj_weight.data, theirs.v_proj_weight.data = ours.query.weight.data, w_k, w_v
    theirs.in_proj_bias.data = torch.cat([ours.query.bias.data, ours.key_value.bias.data])
    copy(ours.out, theirs.out_proj)


def torch_encoder_layer(ours: EncoderBlock | DecoderBlock) -> nn.TransformerEncoderLayer:
    """The pre-norm layer of torch with the block's weights."""
    theirs = nn.TransformerEncoderLayer(
        DIM, HEADS, 4 * DIM, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    copy_self_attention(ours.attention, theirs.self_attn)
    parts = (ours.attention_norm, theirs.norm1), (ours.mlp_norm, theirs.norm2)
    for part, other in (*parts, (ours.mlp[0], theirs.linear1), (ours.mlp[2], theirs.linear2)):
        copy(part, other)
    return theirs


def test_encoder_block_without_memory_is_the_pre_norm_encoder_layer_of_torch() -> None:
    block, x = scrambled(EncoderBlock(DIM, HEADS)), rand(B, N, DIM)
    torch.testing.assert_close(block(x), torch_encoder_layer(block)(x), rtol=0, atol=1e-10)


def test_encoder_block_uses_its_memory() -> None:
    block, x = scrambled(EncoderBlock(DIM, HEADS, memory_slots=3)), rand(B, N, DIM)
    assert (block(x) - torch_encoder_layer(block)(x)).abs().max() > 0.01


def test_decoder_block_with_one_level_is_the_pre_norm_decoder_layer_of_torch() -> None:
    block = scrambled(DecoderBlock(DIM, CONTEXT, HEADS, levels=1))
    theirs = nn.TransformerDecoderLayer(
        DIM, HEADS, 4 * DIM, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    # The layer's own cross-attention wants keys as wide as the queries.
    theirs.multihead_attn = nn.MultiheadAttention(
        DIM, HEADS, kdim=CONTEXT, vdim=CONTEXT, batch_first=True, dtype=torch.float64
    )
    copy_self_attention(block.attention, theirs.self_attn)
    copy_cross_attention(block.cross_attention, theirs.multihead_attn)
    norms = (block.attention_norm, theirs.norm1), (block.cross_norm, theirs.norm2), (block.mlp_norm, theirs.norm3)
    for ours, other in (*norms, (block.mlp[0], theirs.linear1), (block.mlp[2], theirs.linear2)):
        copy(ours, other)
    y, context = rand(B, N, DIM), rand(1, B, V, CONTEXT)
    torch.testing.assert_close(block(y, context), theirs(y, context[0]), rtol=0, atol=1e-10)


def test_decoder_block_without_levels_has_only_self_attention() -> None:
    block, y = scrambled(DecoderBlock(DIM, CONTEXT, HEADS, levels=0)), rand(B, N, DIM)
    assert not any("cross" in name for name, _ in block.named_parameters())
    torch.testing.assert_close(block(y), torch_encoder_layer(block)(y), rtol=0, atol=1e-10)


def test_decoder_block_hands_the_normalisation_to_its_cross_attention() -> None:
    block = DecoderBlock(DIM, CONTEXT, HEADS, levels=4, level_normalisation="mean")
    assert block.cross_attention.divisor == 4


def test_mlp_ratio_sets_the_width_of_the_mlp() -> None:
    assert EncoderBlock(DIM, HEADS, mlp_ratio=1.5).mlp[0].out_features == 12
    assert DecoderBlock(DIM, CONTEXT, HEADS, mlp_ratio=1.5).mlp[0].out_features == 12


# (5) Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [3, 0, -2])
def test_heads_that_do_not_divide_the_channels_are_rejected(heads: int) -> None:
    message = f"num_heads must be a divisor of the 8 token channels, got {heads}"
    with pytest.raises(NomalyError, match=message):
        MemorySelfAttention(DIM, heads)
    with pytest.raises(NomalyError, match=message):
        MultiLevelCrossAttention(DIM, CONTEXT, heads, 2)


def test_negative_number_of_slots_is_rejected() -> None:
    with pytest.raises(NomalyError, match="memory_slots must be >= 0, got -1: 0 disables the memory"):
        MemorySelfAttention(DIM, HEADS, -1)


def test_unknown_normalisation_is_rejected() -> None:
    with pytest.raises(NomalyError, match="level_normalisation must be one of sqrt, mean, sum, got 'max'"):
        MultiLevelCrossAttention(DIM, CONTEXT, HEADS, 2, "max")
