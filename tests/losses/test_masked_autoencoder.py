"""The masked autoencoder's loss against values by hand."""

from __future__ import annotations

import pytest
import torch

from custom.losses.masked_autoencoder import MaskedPatchLoss


def test_loss_of_a_tiny_case_agrees_with_the_hand() -> None:
    # Two images of three patches of two values; each image shows one patch.
    patches = torch.zeros(2, 3, 2)
    predicted = torch.tensor([[[1.0, 3.0], [9.0, 9.0], [0.0, 2.0]], [[9.0, 9.0], [1.0, 1.0], [2.0, 4.0]]])
    visible = torch.tensor([[1], [0]])
    # Hidden patches: (1 + 9) / 2, (0 + 4) / 2, (1 + 1) / 2, (4 + 16) / 2.
    total, terms = MaskedPatchLoss()(predicted, patches, visible)
    assert total.item() == pytest.approx((5 + 2 + 1 + 10) / 4)
    assert terms == {"reconstruction": total}


def test_only_hidden_patches_count_and_get_gradients() -> None:
    torch.manual_seed(0)
    patches, predicted = torch.rand(2, 4, 3), torch.rand(2, 4, 3, requires_grad=True)
    visible = torch.tensor([[0, 2], [3, 1]])
    hidden = torch.tensor([[1, 3], [0, 2]])
    total, _ = MaskedPatchLoss()(predicted, patches, visible)
    (gradient,) = torch.autograd.grad(total, predicted)
    rows = torch.arange(2).unsqueeze(1)
    assert gradient[rows, visible].count_nonzero() == 0
    difference = (predicted - patches).detach()
    torch.testing.assert_close(gradient[rows, hidden], 2 * difference[rows, hidden] / (2 * 2 * 3))
    spoilt = predicted.detach().clone()
    spoilt[rows, visible] = 100.0
    assert torch.equal(MaskedPatchLoss()(spoilt, patches, visible)[0], total)


def test_loss_of_bfloat16_predictions_is_computed_in_float32() -> None:
    predicted, patches = torch.full((1, 4, 2), 1.0, dtype=torch.bfloat16), torch.full((1, 4, 2), 0.999)
    total, _ = MaskedPatchLoss()(predicted, patches, torch.tensor([[0]]))
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(1e-6, rel=1e-3)  # 0.999 is 1 in bfloat16
    assert MaskedPatchLoss()(predicted, patches.bfloat16(), torch.tensor([[0]]))[0].dtype == torch.float32
