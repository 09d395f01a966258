"""The objectives against the equations of their docstrings, written out in float64 NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from custom.losses.reversed_autoencoder import (
    IntrospectiveObjective,
    embedding_loss,
    kl_to_standard_normal,
    squared_error,
)

WEIGHTS = {"beta_rec": 0.7, "beta_kl": 1.3, "beta_neg": 9.0, "beta_emb": 0.4, "gamma_r": 0.6, "warmup_beta_kl": 0.3}
B, SHAPE, LATENT = 3, (2, 4, 5), 6
S = 1 / 40


def image() -> torch.Tensor:
    return torch.rand(B, *SHAPE)


def posterior() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(B, LATENT), torch.randn(B, LATENT)


def R(x: torch.Tensor, y: torch.Tensor) -> np.ndarray:  # noqa: N802 (the paper's name)
    """Summed squared error of each image."""
    return ((x.double().numpy() - y.double().numpy()) ** 2).reshape(B, -1).sum(1)


def KL(q: tuple[torch.Tensor, torch.Tensor]) -> np.ndarray:  # noqa: N802
    """Divergence of each image's posterior from the standard normal, as the textbook integral gives it."""
    mu, sigma = q[0].double().numpy(), np.exp(0.5 * q[1].double().numpy())
    return (0.5 * (mu**2 + sigma**2 - 1) - np.log(sigma)).sum(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_squared_error_is_summed_over_each_image() -> None:
    x, y = torch.zeros(2, 1, 2, 2), torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0]).reshape(2, 1, 2, 2)
    assert squared_error(x, y).tolist() == [5, 9]


@pytest.mark.parametrize(
    ("mu", "variance", "expected"),
    [
        ([0.0, 0.0], [1.0, 1.0], 0.0),
        ([2.0, 0.0], [1.0, 1.0], 2.0),  # mu ** 2 / 2
        ([0.0, 1.0], [4.0, 1.0], 1.5 - math.log(2) + 0.5),  # (4 - 1) / 2 - log 2, and 1 / 2
    ],
)
def test_divergence_agrees_with_values_by_hand(mu: list, variance: list, expected: float) -> None:
    kl = kl_to_standard_normal((torch.tensor([mu]), torch.tensor([variance]).log()))
    assert kl.item() == pytest.approx(expected, abs=1e-6)


def test_bfloat16_inputs_give_float32_errors_and_divergences() -> None:
    x, (mu, logvar) = image().bfloat16(), (part.bfloat16() for part in posterior())
    assert squared_error(x, 0 * x).dtype == kl_to_standard_normal((mu, logvar)).dtype == torch.float32
    assert embedding_loss([x], [2 * x]).dtype == torch.float32


def test_embedding_loss_of_equal_embeddings_is_zero() -> None:
    levels = [torch.rand(2, 3, 4, 4), torch.rand(2, 5, 2, 2)]
    assert embedding_loss(levels, [level.clone() for level in levels]).item() == pytest.approx(0, abs=1e-6)


def test_embedding_loss_of_a_tiny_case_agrees_with_the_hand() -> None:
    # Level 1: right angle, so 1 - cosine = 1, and squared differences 1, 1. Level 2: same direction, differences 9, 16.
    real = [torch.tensor([[1.0, 0.0]]).reshape(1, 2, 1, 1), torch.tensor([[3.0, 4.0]]).reshape(1, 1, 1, 2)]
    reconstructed = [torch.tensor([[0.0, 1.0]]).reshape(1, 2, 1, 1), torch.tensor([[6.0, 8.0]]).reshape(1, 1, 1, 2)]
    assert embedding_loss(real, reconstructed).item() == pytest.approx((0.5 * 1 + 1) + (0.5 * 12.5 + 0), rel=1e-6)


def test_embedding_loss_takes_the_cosine_of_each_image_separately() -> None:
    real = [torch.tensor([[1.0, 0.0], [1.0, 0.0]])]
    reconstructed = [torch.tensor([[1.0, 0.0], [-1.0, 0.0]])]
    # Squared differences 0, 0, 4, 0; cosines 1 and -1.
    assert embedding_loss(real, reconstructed).item() == pytest.approx(0.5 * 1 + (0 + 2) / 2)


def test_warmup_objective_equals_its_equation() -> None:
    x, x_hat, q = image(), image(), posterior()
    total, terms = IntrospectiveObjective(**WEIGHTS).warmup(x, x_hat, q)
    assert total.item() == pytest.approx(S * (0.7 * R(x, x_hat).mean() + 0.3 * KL(q).mean()), rel=1e-6)
    assert terms["reconstruction"].item() == pytest.approx(R(x, x_hat).mean(), rel=1e-6)
    assert terms["kl_real"].item() == pytest.approx(KL(q).mean(), rel=1e-6)


def test_encoder_objective_equals_its_equation() -> None:
    x, x_hat, q = image(), image(), posterior()
    (hat_hat, q_hat), (fake, fake_hat, q_fake) = (image(), posterior()), (image(), image(), posterior())
    levels = [torch.rand(B, 4, 3, 3)], [torch.rand(B, 4, 3, 3)]
    a, b = (level[0].double().numpy().reshape(B, -1) for level in levels)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)

    total, terms = IntrospectiveObjective(**WEIGHTS).encoder(
        x, x_hat, q, [(x_hat, hat_hat, q_hat), (fake, fake_hat, q_fake)], levels
    )
    exp_hat = np.exp(-2 * S * (0.7 * R(x_hat, hat_hat) + 9 * KL(q_hat))).mean()
    exp_fake = np.exp(-2 * S * (0.7 * R(fake, fake_hat) + 9 * KL(q_fake))).mean()
    emb = 0.5 * ((a - b) ** 2).mean() + (1 - cosine).mean()
    expected = S * (0.7 * R(x, x_hat).mean() + 1.3 * KL(q).mean()) + 0.25 * (exp_hat + exp_fake) + 0.4 * emb
    assert total.item() == pytest.approx(expected, rel=1e-6)
    values = {
        "reconstruction": R(x, x_hat).mean(),
        "kl_real": KL(q).mean(),
        "embedding": emb,
        "exp_elbo_reconstructed": exp_hat,
        "exp_elbo_fake": exp_fake,
    }
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(values, rel=1e-5)


def test_decoder_objective_equals_its_equation() -> None:
    x, x_hat = image(), image()
    (hat_hat, q_hat), (fake, fake_hat, q_fake) = (image(), posterior()), (image(), image(), posterior())
    total, terms = IntrospectiveObjective(**WEIGHTS).decoder(
        x, x_hat, [(x_hat, hat_hat, q_hat), (fake, fake_hat, q_fake)]
    )
    own = 0.6 * 0.7 / 2 * (R(x_hat, hat_hat).mean() + R(fake, fake_hat).mean())
    kl = 1.3 / 2 * (KL(q_hat).mean() + KL(q_fake).mean())
    assert total.item() == pytest.approx(S * (0.7 * R(x, x_hat).mean() + kl + own), rel=1e-6)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"kl_reconstructed": KL(q_hat).mean(), "kl_fake": KL(q_fake).mean()}, rel=1e-6
    )


def test_decoder_objective_without_gamma_needs_no_reconstructions() -> None:
    x, x_hat, fake, q_hat, q_fake = image(), image(), image(), posterior(), posterior()
    generated = [(x_hat, None, q_hat), (fake, None, q_fake)]
    total, _ = IntrospectiveObjective(**WEIGHTS | {"gamma_r": 0.0}).decoder(x, x_hat, generated)
    expected = S * (0.7 * R(x, x_hat).mean() + 1.3 / 2 * (KL(q_hat).mean() + KL(q_fake).mean()))
    assert total.item() == pytest.approx(expected, rel=1e-6)


def test_decoders_error_on_its_own_images_pulls_only_their_reconstructions() -> None:
    x, x_hat, y_hat = image(), image().requires_grad_(), image().requires_grad_()
    objective = IntrospectiveObjective(**WEIGHTS | {"beta_kl": 0.0})
    total, _ = objective.decoder(x, x_hat, [(x_hat, y_hat, posterior()), (image(), image(), posterior())])
    total.backward()
    torch.testing.assert_close(x_hat.grad, S * 0.7 * 2 * (x_hat - x).detach() / B)
    torch.testing.assert_close(y_hat.grad, S * 0.6 * 0.7 / 2 * 2 * (y_hat - x_hat).detach() / B)


def test_weights_default_to_those_of_the_paper() -> None:
    objective = IntrospectiveObjective()
    assert (objective.beta_rec, objective.beta_kl, objective.beta_neg, objective.beta_emb) == (0.5, 1, 128, 0.005)
