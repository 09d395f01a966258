"""The training step against a plain reference; tiny trainings: both phases, amp, NaN, resume, processes."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ignite.engine import Events
from monai.engines.evaluator import Evaluator
from monai.handlers import ValidationHandler
from torch import nn

from custom.data.augmentation import BatchAugmentation
from custom.data.batches import BatchLoader
from custom.data.slices import SliceDataset
from custom.detector.anomaly_detector import AnomalyDetector
from custom.engines.coarse_noise import CoarseNoise
from custom.engines.ra_trainer import ReversedAutoencoderTrainer
from custom.errors import NomalyError
from custom.handlers.checkpoint import TrainingCheckpoint
from custom.handlers.loss_log import LossLog
from custom.handlers.schedule import EpochSeed, PhasedLearningRate
from custom.losses.reversed_autoencoder import IntrospectiveObjective
from custom.losses.squared_error import squared_error
from custom.networks.reversed_autoencoder import ReversedAutoencoder

CPU = torch.device("cpu")
# A GPU takes recorded steps.
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")),
]
# Every term weighs enough to be seen in the updated weights.
WEIGHTS = {"beta_rec": 0.7, "beta_kl": 1.3, "beta_neg": 9.0, "beta_emb": 0.4}
WARMUP_TERMS = {"reconstruction", "kl_real"}
INTROSPECTIVE_TERMS = WARMUP_TERMS | {"embedding", "exp_elbo_reconstructed", "exp_elbo_fake"}
INTROSPECTIVE_TERMS |= {"kl_reconstructed", "kl_fake", "encoder", "decoder"}


def make_trainer(
    batches: Any = None,
    norm: str = "frozen",
    rate: float = 1.0,
    gamma_r: float = 0.0,
    optimizer: Callable = torch.optim.SGD,
    dtype: torch.dtype = torch.float32,
    **settings: Any,
) -> ReversedAutoencoderTrainer:
    """Trainer of a tiny network; its initial weights are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ReversedAutoencoder(image_size=16, channels=(4, 8), latent_size=8, norm=norm).to(
            settings.get("device", CPU), dtype
        )
    return ReversedAutoencoderTrainer(
        **{"device": CPU, "max_epochs": 1, "train_data_loader": batches or [{"image": images()}]} | settings,
        network=AnomalyDetector(model, nn.Identity()),
        encoder_optimizer=optimizer(model.encoder.parameters(), rate),
        decoder_optimizer=optimizer(model.decoder.parameters(), rate),
        objective=IntrospectiveObjective(**WEIGHTS, gamma_r=gamma_r),
    )


def images(count: int = 4, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def noise(count: int = 4, seed: int = 2) -> torch.Tensor:
    return torch.randn(6, count, 8, generator=torch.Generator().manual_seed(seed))


# (1) The step ---------------------------------------------------------------------------------------------------------


def reference_step(model: ReversedAutoencoder, x: torch.Tensor, eps: torch.Tensor, gamma_r: float, rate: float) -> dict:
    """One introspective step by gradient descent, every image and posterior computed where an equation names it."""
    encoder, decoder, s = model.encoder, model.decoder, 1 / x[0].numel()

    def draw(posterior: tuple, e: torch.Tensor) -> torch.Tensor:
        return posterior[0] + (posterior[1] / 2).exp() * e

    def kl(posterior: tuple) -> torch.Tensor:
        mu, logvar = posterior[:2]
        return -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(dim=1)

    def error(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return ((a - b) ** 2).sum(dim=(1, 2, 3))

    def descend(part: nn.Module, loss: torch.Tensor) -> None:
        part.zero_grad()
        loss.backward(inputs=list(part.parameters()))
        with torch.no_grad():
            for parameter in part.parameters():
                parameter -= rate * parameter.grad

    # Encoder. A generated image is data for the encoder: no gradient flows through it into its own posterior.
    real = encoder(x)
    z = draw(real, eps[0])
    x_hat, x_fake = decoder(z), decoder(eps[1])
    exp_elbos = []
    for y, e in ((x_hat, eps[2]), (x_fake.detach(), eps[3])):
        y_hat = decoder(draw(encoder(y.detach()), e))
        neg_elbo = WEIGHTS["beta_rec"] * error(y, y_hat) + WEIGHTS["beta_neg"] * kl(encoder(y.detach()))
        exp_elbos.append((-2 * s * neg_elbo).exp().mean())
    embedding = 0.0
    for a, b in zip(encoder(x)[2], encoder(x_hat.detach())[2]):
        cosine = (a * b).flatten(1).sum(1) / (a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1))
        embedding += 0.5 * ((a - b) ** 2).mean() + (1 - cosine).mean()
    elbo = WEIGHTS["beta_rec"] * error(x, x_hat).mean() + WEIGHTS["beta_kl"] * kl(real).mean()
    encoder_loss = s * elbo + 0.25 * sum(exp_elbos) + WEIGHTS["beta_emb"] * embedding
    descend(encoder, encoder_loss)

    # Decoder, against the updated encoder; the codes of the real images stay those of the encoder's phase.
    x_hat, x_fake = decoder(z.detach()), decoder(eps[1])
    decoder_loss = WEIGHTS["beta_rec"] * error(x, x_hat).mean()
    for y, e in ((x_hat, eps[4]), (x_fake, eps[5])):
        y_hat = decoder(draw(encoder(y), e).detach())
        decoder_loss = decoder_loss + WEIGHTS["beta_kl"] / 2 * kl(encoder(y)).mean()
        decoder_loss = decoder_loss + gamma_r * WEIGHTS["beta_rec"] / 2 * error(y.detach(), y_hat).mean()
    descend(decoder, s * decoder_loss)
    return {"encoder": encoder_loss.item(), "decoder": s * decoder_loss.item()}


@pytest.mark.parametrize("gamma_r", [0.0, 0.6])
def test_shared_forwards_change_neither_losses_nor_weights(gamma_r: float) -> None:
    trainer = make_trainer(gamma_r=gamma_r, dtype=torch.float64)
    reference = make_trainer(dtype=torch.float64).model
    x, eps = images().double(), noise().double()
    before = [parameter.clone() for parameter in reference.parameters()]
    for _ in range(2):
        _, loss, terms = trainer.introspective_step(x, eps)
        expected = reference_step(reference, x, eps, gamma_r, rate=1.0)
        assert {name: terms[name].item() for name in expected} == pytest.approx(expected, rel=1e-6)
        assert loss.item() == pytest.approx(sum(expected.values()), rel=1e-6)
    named = zip(trainer.model.named_parameters(), reference.parameters(), before, strict=True)
    for (name, parameter), other, start in named:
        assert (other - start).abs().max() > 1e-5, name  # else the comparison would say nothing
        torch.testing.assert_close(parameter, other, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize(("gamma_r", "decoder_forwards"), [(0.0, 4), (0.6, 6)])
def test_introspective_step_takes_five_encoder_and_four_decoder_forwards(gamma_r: float, decoder_forwards: int) -> None:
    trainer = make_trainer(gamma_r=gamma_r)
    calls = []
    trainer.model.encoder.register_forward_hook(lambda *_: calls.append("encoder"))
    trainer.model.decoder.register_forward_hook(lambda *_: calls.append("decoder"))
    trainer.introspective_step(images(), noise())
    assert (calls.count("encoder"), calls.count("decoder")) == (5, decoder_forwards)


def test_step_leaves_no_gradients_for_the_next_one() -> None:
    trainer = make_trainer()
    trainer.introspective_step(images(), noise())
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_warmup_step_is_plain_descent_of_the_vae_objective() -> None:
    trainer, reference = make_trainer(), make_trainer().model
    x, eps = images(), noise()
    trainer.warmup_step(x, eps)
    mu, logvar, _ = reference.encoder(x)
    x_hat = reference.decoder(mu + (logvar / 2).exp() * eps[0])
    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
    loss = (WEIGHTS["beta_rec"] * ((x - x_hat) ** 2).sum(dim=(1, 2, 3)).mean() + 0.1 * kl) / 256
    loss.backward()
    for parameter, other in zip(trainer.model.parameters(), reference.parameters(), strict=True):
        gradient = torch.zeros_like(other) if other.grad is None else other.grad
        torch.testing.assert_close(parameter, other - gradient, rtol=0, atol=1e-6)


# (2) Warm-up and introspective phase ----------------------------------------------------------------------------------


def test_introspective_phase_begins_after_the_last_warmup_epoch() -> None:
    trainer = make_trainer([{"image": images()}] * 2, max_epochs=4, warmup_epochs=2, rate=0.01)
    seen = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: seen.append((engine.state.epoch, set(engine.state.output[0]["terms"]))),
    )
    trainer.run()
    assert seen == [(epoch, WARMUP_TERMS if epoch <= 2 else INTROSPECTIVE_TERMS) for epoch in (1, 1, 2, 2, 3, 3, 4, 4)]


def test_output_of_a_step_holds_images_reconstructions_and_detached_terms() -> None:
    x = images()
    trainer = make_trainer([{"image": x}])
    trainer.run()
    (output,) = trainer.state.output
    assert torch.equal(output["image"], x) and output["pred"].shape == x.shape
    assert output["loss"].item() == pytest.approx((output["terms"]["encoder"] + output["terms"]["decoder"]).item())
    assert not any(value.requires_grad for value in (output["pred"], output["loss"], *output["terms"].values()))


# (3) bfloat16 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warmup_epochs", [0, 1])
def test_bfloat16_training_stays_near_float32(warmup_epochs: int) -> None:
    terms = []
    for amp in (False, True):
        trainer = make_trainer([{"image": images()}] * 3, rate=0.1, warmup_epochs=warmup_epochs, amp=amp)
        torch.manual_seed(4)
        trainer.run()
        terms.append({name: term.item() for name, term in trainer.state.output[0]["terms"].items()})
    assert terms[0] != terms[1]
    assert terms[1] == pytest.approx(terms[0], rel=0.02, abs=2e-3)


def test_decoder_plays_against_the_updated_encoder_in_bfloat16_too() -> None:
    # Autocast caches bfloat16 weights: with those from before the encoder's update the divergence would hardly move.
    divergence = {}
    for amp, rate in ((False, 0.0), (False, 10.0), (True, 10.0)):
        trainer = make_trainer(rate=rate)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
            divergence[amp, rate] = trainer.introspective_step(images(), noise())[2]["kl_fake"].item()
    assert divergence[False, 10.0] > 5 * divergence[False, 0.0]
    assert divergence[True, 10.0] == pytest.approx(divergence[False, 10.0], rel=0.1)


# (4) NaN --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("check_every", "warmup_epochs"), [(None, 0), (50, 0), (None, 9)])
def test_nan_stops_training_by_name_and_keeps_the_checkpoint(tmp_path: Path, check_every, warmup_epochs) -> None:
    batches = [{"image": images(seed=seed)} for seed in range(3)]
    trainer = make_trainer(batches, max_epochs=3, rate=0.01, warmup_epochs=warmup_epochs)
    optimizers = {"encoder": trainer.encoder_optimizer, "decoder": trainer.decoder_optimizer}
    LossLog(check_every).attach(trainer)
    checkpoint = TrainingCheckpoint(str(tmp_path), trainer.network, optimizers)
    checkpoint.attach(trainer)
    saved = []

    @trainer.on(Events.EPOCH_STARTED(once=2))
    def spoil() -> None:
        saved.extend(path.read_bytes() for path in (checkpoint.checkpoint, checkpoint.model))
        batches[1]["image"][0, 0, 3, 3] = float("nan")

    message = r"loss term 'reconstruction' is nan at step 5 \(epoch 2\).*last good checkpoint is kept"
    with pytest.raises(NomalyError, match=message):
        trainer.run()
    assert saved == [checkpoint.checkpoint.read_bytes(), checkpoint.model.read_bytes()]


# (5) Resume -----------------------------------------------------------------------------------------------------------


class ToyValidator(Evaluator):
    """Measures the reconstruction of fixed images, and takes random numbers as a real validation may."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        super().__init__(device=CPU, val_data_loader=[images(seed=9)])
        self.add_event_handler(Events.EPOCH_COMPLETED, self.measure)

    def _iteration(self, engine: Any, x: torch.Tensor) -> float:
        torch.rand(7)
        with torch.no_grad():
            x = x.to(next(self.network.parameters()).device)
            return squared_error(x, self.network.eval().reconstruct(x)).mean().item()

    def measure(self) -> None:
        error = self.state.output
        self.state.metrics |= {"synthetic_auroc": round(1 / error, 2), "healthy_error": error}


def assemble_training(directory: Path, max_epochs: int = 4, device: str = "cpu"):
    """A training as the bundle puts it together: shuffling, augmentation, noise, batch norm, Adam, validation,
    checkpoints.
    """
    studies = [{"image": images(6, seed).permute(1, 2, 3, 0)} for seed in range(2)]
    loader = BatchLoader(SliceDataset(studies, lambda study: study, progress=False), 2, device)
    trainer = make_trainer(
        loader,
        max_epochs=max_epochs,
        warmup_epochs=1,
        device=torch.device(device),
        augmentation=BatchAugmentation(shift_share=0.1),
        input_noise=CoarseNoise(),
        norm="batch",
        optimizer=functools.partial(torch.optim.Adam, fused=True),
        rate=1e-3,
    )
    optimizers = {"encoder": trainer.encoder_optimizer, "decoder": trainer.decoder_optimizer}
    validator = ToyValidator(trainer.network)
    checkpoint = TrainingCheckpoint(str(directory), trainer.network, optimizers, validator, {"datalist": "abc"})
    for handler in (
        EpochSeed(0),
        PhasedLearningRate(list(optimizers.values()), 1, max_epochs, 1e-2, 1e-3, 1e-4),
        LossLog(),
        ValidationHandler(interval=1, validator=validator),
        checkpoint,
    ):
        handler.attach(trainer)
    return trainer, checkpoint


def same(a: Any, b: Any) -> bool:
    """Equality to the last bit of nested dictionaries and lists of tensors and plain values."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a.cpu(), b.cpu())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def everything(trainer: ReversedAutoencoderTrainer, checkpoint: TrainingCheckpoint) -> dict[str, Any]:
    """All that a training leaves behind."""
    return {
        "network": trainer.network.state_dict(),
        "encoder": trainer.encoder_optimizer.state_dict(),
        "decoder": trainer.decoder_optimizer.state_dict(),
        "best": checkpoint.best,
        "checkpoint.pt": torch.load(checkpoint.checkpoint, weights_only=True),
        "model.pt": torch.load(checkpoint.model, weights_only=True),
        "iteration": (trainer.state.epoch, trainer.state.iteration),
    }


@pytest.mark.parametrize("device", DEVICES)
def test_killed_training_resumes_bit_for_bit(tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)  # as the configs' set_determinism does
    torch.manual_seed(11)
    uninterrupted = assemble_training(tmp_path / "a", device=device)
    uninterrupted[0].run()
    expected = everything(*uninterrupted)
    assert expected["iteration"] == (4, 24)

    torch.manual_seed(22)
    killed, _ = assemble_training(tmp_path / "b", device=device)

    @killed.on(Events.ITERATION_COMPLETED(once=14))  # the second of six steps of epoch 3
    def kill() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed.run()
    assert (killed.state.epoch, killed.state.iteration) == (3, 14)

    torch.manual_seed(33)
    resumed = assemble_training(tmp_path / "b", device=device)
    steps = []
    resumed[0].add_event_handler(Events.ITERATION_COMPLETED, lambda: steps.append(resumed[0].state.iteration))
    resumed[0].run()
    assert steps == list(range(13, 25))
    result = everything(*resumed)
    assert [name for name in expected if not same(result[name], expected[name])] == []


def test_comparison_of_trainings_sees_a_single_changed_bit(tmp_path: Path) -> None:
    training = assemble_training(tmp_path, max_epochs=1)
    training[0].run()
    before = everything(*training)
    assert same(before, everything(*training))
    changed = {name: value.clone() for name, value in before["network"].items()}
    weight = changed["reconstructor.encoder.posterior.bias"]
    weight[0] = torch.nextafter(weight[0], torch.tensor(torch.inf))
    assert not same(before, before | {"network": changed})


# (6) Two processes ----------------------------------------------------------------------------------------------------


def train_two_steps(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Weights after a warm-up step and an introspective step on this process's images."""
    trainer = make_trainer(gamma_r=0.6, rate=5.0)
    torch.manual_seed(5)
    trainer.warmup_step(x, trainer.draw_noise(len(x)))
    trainer.introspective_step(x, trainer.draw_noise(len(x)))
    return trainer.model.state_dict()


@pytest.mark.slow
def test_two_processes_do_what_one_does_with_the_whole_batch(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(rank)], env=environment) for rank in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]

    start, expected = make_trainer().model.state_dict(), train_two_steps(images(8))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name, value in expected.items():
        assert torch.equal(first[name], second[name]), name
        assert (value - start[name]).abs().max() > 1e-5, name
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-6, msg=name)


def be_one_of_two_processes(folder: str, rank: int) -> None:
    """Train on every second image and save the weights."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(train_two_steps(images(8)[rank::2]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    be_one_of_two_processes(sys.argv[1], int(sys.argv[2]))
