"""Only weights are decayed."""

from __future__ import annotations

from custom.engines.parameter_groups import weight_decay_groups
from custom.networks.memmc_mae import MemMCMaskedAutoencoder


def test_matrices_are_decayed_and_biases_norms_tokens_and_memory_are_not() -> None:
    network = MemMCMaskedAutoencoder(
        2, 1, 32, 8, hidden_size=8, depth=2, num_heads=2, decoder_hidden_size=8, decoder_num_heads=2, memory_slots=3
    )
    decayed, others = weight_decay_groups(network, 0.05)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decayed_names = {names[id(parameter)] for parameter in decayed["params"]}
    assert len(decayed["params"]) + len(others["params"]) == len(names)
    # by hand: the matrices of linear layers, and the two halves of the gates
    assert {name.rpartition(".")[2] for name in decayed_names} == {"weight", "gate_query", "gate_level"}
    assert not any("norm" in name for name in decayed_names)
    assert "encoder.0.attention.memory_key" in names.values()
