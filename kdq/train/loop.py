"""The one training loop: every stage that trains is a task given to ``fit``.

Protocol: the epoch is chosen on the validation part; the test part is never seen here. A run that is killed and
started again ends with the same bytes as one that was not: all state, random states too, is in the checkpoint.
"""

import time

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.flop_counter import FlopCounterMode

from kdq.data.batches import TrainingBatches, evaluation_batches
from kdq.errors import Stopped, UserError
from kdq.models import masks
from kdq.train import checkpoint as checkpoints
from kdq.train.device import autocast, compute_dtype, peak_memory_bytes
from kdq.train.energy import EnergyMeter
from kdq.train.settings import Training
from kdq.train.task import Task

LOG_EVERY_SECONDS = 60  # within an epoch
CHECK_EVERY_STEPS = 50  # reading the loss waits for the device; this often suffices to stop a diverged run


def fit(
    task: Task, batches: TrainingBatches, validation, settings: Training, *, seed: int, checkpoint, identity: str, log
) -> list[dict]:
    """Train ``task``, leaving the selected weights in ``task.network``; return the history, one dict per epoch.

    ``validation`` has ``images`` (M, C, H, W) uint8, and ``labels`` (M,) on the task's device. ``checkpoint`` is the
    path of the checkpoint, ``identity`` a text of everything that the result depends on: a checkpoint of another
    identity is ignored. Raise UserError that names epoch, step and term when a loss is not finite.
    """
    run = Run(task, batches, validation, settings, seed)
    state = checkpoints.load(checkpoint, identity, log)
    if state is not None:
        run.load_state_dict(state)
        for row in run.history:  # the interrupted job may have had another log file
            log(describe(row, settings.epochs))
    for epoch in range(run.epoch + 1, settings.epochs + 1):
        try:
            row = run.train_epoch(epoch, log)
            log(describe(row, settings.epochs))
            checkpoints.save(checkpoint, {"identity": identity, **run.state_dict()})
        except Stopped as stop:
            # No checkpoints within an epoch: it takes minutes, and SIGKILL costs as much anyway.
            epochs = f"in epoch {epoch} of {settings.epochs}; started again it goes on after epoch {epoch - 1}"
            raise Stopped(f"{stop} {epochs}") from None
    run.restore_selected(log)
    if (last := run.last_accuracy) <= run.chance:
        log(
            f"warning: after the last epoch the validation accuracy is {last:.2%}, no better than one class for all "
            "images: the training diverged; a lower learning_rate or a smaller weight of a loss may help"
        )
    return run.history


class Run:
    """A training run in progress: everything that a checkpoint holds."""

    def __init__(self, task: Task, batches: TrainingBatches, validation, settings: Training, seed: int):
        self.task, self.batches, self.validation, self.settings = task, batches, validation, settings
        self.device = batches.labels.device
        self.dtype = compute_dtype(settings.precision, self.device)
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.SGD(
            parameter_groups(task, settings),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            nesterov=settings.momentum > 0,
        )
        self.schedule = make_schedule(self.optimizer, settings, len(batches) * settings.epochs)
        averaged = task.networks if settings.averaging else {}
        average = get_ema_multi_avg_fn(settings.averaging)
        self.averages = nn.ModuleDict(
            {name: AveragedModel(network, multi_avg_fn=average, use_buffers=True) for name, network in averaged.items()}
        )
        self.energy = EnergyMeter()
        self.masked: list[tuple] = []  # weights, and masks, of pruned layers
        self.epoch = 0
        self.history: list[dict] = []
        self.selected: dict | None = None

    @property
    def evaluated(self) -> dict[str, nn.Module]:
        """The networks that are evaluated and saved: the averages if there are any."""
        return {name: average.module for name, average in self.averages.items()} or self.task.networks

    @property
    def last_accuracy(self) -> float:
        """The best validation accuracy after the last epoch."""
        return max(self.history[-1][column_of(name)] for name in self.task.candidates)

    @property
    def chance(self) -> float:
        """The validation accuracy of the largest class for all images."""
        labels = self.validation.labels
        return labels.bincount().max().item() / len(labels)

    def train_epoch(self, epoch: int, log) -> dict:
        """Train one epoch, validate, and choose the epoch to save; return the row of the history."""
        self.task.before_epoch(epoch)
        self._spread_masks()
        self.task.train()
        logged = time.monotonic()
        started, processor_started = time.perf_counter(), time.process_time()
        self.energy.restart()
        names, terms, correct, images, flops = (), [], 0, 0, []
        for index, batch in enumerate(self.batches.epoch(epoch, self.generator), 1):
            if index <= self.task.period:
                step, operations = self._counted_step(batch)
                flops.append(operations)
            else:
                step = self._step(batch)
            names = tuple(step.terms)
            terms.append(torch.stack([term.detach() for term in step.terms.values()]))
            correct = correct + (step.logits.argmax(1) == batch.labels).sum()
            images += len(batch.labels)
            if index % CHECK_EVERY_STEPS == 0:
                check_finite(names, terms[-CHECK_EVERY_STEPS:], epoch, index - CHECK_EVERY_STEPS)
            if time.monotonic() - logged > LOG_EVERY_SECONDS:
                logged = time.monotonic()
                log(f"epoch {epoch:>3}/{self.settings.epochs}  step {index}/{len(self.batches)}  so far")
        check_finite(names, terms, epoch, 0)
        seconds = time.perf_counter() - started
        spent = {"processor_seconds": time.process_time() - processor_started, "energy_joules": self.energy.joules()}
        for network in self.evaluated.values():
            masks.impose(network)  # what was pruned lately is still in the averages
        self.task.before_validation(self.evaluated)
        accuracies = {name: self.validate(network) for name, network in self.evaluated.items()}
        row = {
            "epoch": epoch,
            "learning_rate": self.learning_rate,
            **{f"loss_{name}": value for name, value in zip(names, torch.stack(terms).mean(0).tolist(), strict=True)},
            "training_accuracy": float(correct) / images,
            **{column_of(name): accuracy for name, accuracy in accuracies.items()},
            "training_flops": sum(flops) * len(terms) // len(flops),
            "images_per_second": images / seconds,
            **spent,
            "peak_memory_bytes": peak_memory_bytes(self.device),
        }
        self.epoch = epoch
        self.history.append(row)
        self._select(epoch, accuracies)
        return row

    def _spread_masks(self) -> None:
        """Give the averages the masks of their networks, and find the weights that are pruned in these."""
        for name, average in self.averages.items():
            masks.attach(average.module, masks.masks_of(self.task.networks[name]))
        self.masked = [pair for network in self.task.networks.values() for pair in masks.masked_weights(network)]

    def _counted_step(self, batch):
        """Return the step as :meth:`_step`, and the floating-point operations of its passes, also of its teacher."""
        with self.task.alone(), FlopCounterMode(display=False) as counter:
            return self._step(batch), counter.get_total_flops()

    def _step(self, batch):
        self.learning_rate = self.schedule.get_last_lr()[0]
        with autocast(self.dtype, self.device):
            step = self.task(batch)
        self.optimizer.zero_grad(set_to_none=True)
        sum(step.terms.values()).backward()
        self.optimizer.step()
        for weight, mask in self.masked:
            weight.detach().mul_(mask)
        self.schedule.step()
        for name, average in self.averages.items():
            average.update_parameters(self.task.networks[name])
        return step

    @torch.no_grad()
    def validate(self, network: nn.Module) -> float:
        """Return the top-1 accuracy of ``network`` on the validation part."""
        network.eval()
        predictions = []
        with autocast(self.dtype, self.device):
            for images in evaluation_batches(self.validation.images, device=self.device):
                predictions.append(network(images).argmax(1))
        return (torch.cat(predictions) == self.validation.labels).double().mean().item()

    def _select(self, epoch: int, accuracies: dict[str, float]) -> None:
        if not self.task.candidates:
            return
        name = max(self.task.candidates, key=accuracies.get)
        accuracy = accuracies[name]
        if self.settings.select == "last" or self.selected is None or accuracy > self.selected["accuracy"]:
            weights = {key: value.detach().clone() for key, value in self.evaluated[name].state_dict().items()}
            self.selected = {"epoch": epoch, "accuracy": accuracy, "name": name, "weights": weights}

    def restore_selected(self, log) -> None:
        """Put the selected epoch's weights into the task's network."""
        selected = self.selected
        self.task.network.load_state_dict(selected["weights"])
        self.task.eval()
        name = "" if selected["name"] == "network" else f" of the {selected['name']}"
        log(f"saving epoch {selected['epoch']}{name}, validation accuracy {selected['accuracy']:.4f}")

    def state_dict(self) -> dict:
        return {
            "epoch": self.epoch,
            "task": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "averages": self.averages.state_dict(),
            "selected": self.selected,
            "history": self.history,
            "generator": self.generator.get_state(),
            "torch_random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }

    def load_state_dict(self, state: dict) -> None:
        self.epoch, self.history, self.selected = state["epoch"], state["history"], state["selected"]
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.averages.load_state_dict(state["averages"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch_random"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["cuda_random"])


def parameter_groups(task: nn.Module, settings: Training) -> list[dict]:
    """Return the parameters of ``task`` with their weight decay; weights are those of two dimensions or more."""
    decay, parameters = settings.weight_decay, list(task.parameters())
    if settings.decayed == "all":
        return [{"params": parameters, "weight_decay": decay}]
    weights = [parameter for parameter in parameters if parameter.dim() > 1]
    rest = [parameter for parameter in parameters if parameter.dim() <= 1]
    groups = {"params": weights, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}
    return [group for group in groups if group["params"]]


def make_schedule(optimizer, settings: Training, steps: int):
    """Return the schedule over ``steps`` steps: cosine to zero, or a linear rise and fall (one cycle)."""
    if settings.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=steps)
    return OneCycleLR(
        optimizer,
        max_lr=settings.learning_rate,
        total_steps=steps + 1,  # the schedule is stepped once after the last step too
        # if the rise ended at the very first step, torch would divide by its length, zero
        pct_start=0.0 if settings.rise * (steps + 1) == 1 else settings.rise,
        anneal_strategy="linear",
        cycle_momentum=False,
    )


def check_finite(names, terms: list[Tensor], epoch: int, steps_before: int) -> None:
    """Raise UserError naming the first step and term of ``terms`` that is not finite."""
    wrong = ~torch.stack(terms).isfinite()
    if wrong.any():
        index, term = wrong.nonzero()[0].tolist()
        value = terms[index][term].item()
        raise UserError(
            f"epoch {epoch}, step {steps_before + index + 1}: the loss term {names[term]!r} is {value}, "
            "expected a finite number; a lower learning_rate or precision=float32 may help"
        )


def column_of(name: str) -> str:
    """Return the history's column for the validation accuracy of the task's network ``name``."""
    return "validation_accuracy" if name == "network" else f"{name}_validation_accuracy"


def describe(row: dict, epochs: int) -> str:
    """Return a row of the history as one line for the log."""
    losses = "  ".join(f"{name.removeprefix('loss_')} {row[name]:.4f}" for name in row if name.startswith("loss_"))
    names = [name for name in row if name.endswith("validation_accuracy")]
    validation = "  ".join(f"{name.removesuffix('_accuracy').replace('_', ' ')} {row[name]:.2%}" for name in names)
    return (
        f"epoch {row['epoch']:>3}/{epochs}  learning rate {row['learning_rate']:.5f}  {losses}  "
        f"training {row['training_accuracy']:.2%}  {validation}  {row['images_per_second']:,.0f} images/s"
    )
