"""Which parameters get weight decay."""

from __future__ import annotations

from typing import Any

from torch import nn

TOKENS = ("mask_token", "memory_key", "memory_value", "gate_bias")


def weight_decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser: weights are decayed, biases, norms, tokens and memory slots are not.

    As in the masked autoencoder's official training (He et al., CVPR 2022); decay would pull the memory towards
    forgetting.

    Args:
        module: the network to train.
        weight_decay: decay of the weights.
    """
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        plain = parameter.ndim < 2 or name.rpartition(".")[2] in TOKENS
        (others if plain else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
