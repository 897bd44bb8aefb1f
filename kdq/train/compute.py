"""What trainings cost, and how long the first of them must be to cost as much as each: compare at equal compute.

    python -m kdq.train.compute results/cifar10/seed=0/{hard,teacher/kd}/history.csv

prints for each history its epochs, operations, images per second, processor seconds and energy, and
``epochs_equal_compute``: the epochs that the first one, the control, needs for as many operations.
"""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

from kdq.errors import UserError
from kdq.train import history

LINE = "{:>6} {:>14} {:>17} {:>10} {:>20}  {}"


@dataclass(frozen=True)
class Cost:
    """The cost of a training: floating-point operations, seconds of all processors, energy in joules if it is known.

    Students side by side share a process: their ``processor_seconds`` are those of all of them.
    """

    epochs: int
    flops: int
    processor_seconds: float
    joules: float | None

    def epochs_equal_compute(self, control: "Cost") -> int:
        """Return the epochs, at least 1, in which ``control`` takes as many operations as this training."""
        return max(1, round(self.flops * control.epochs / control.flops))


def cost(path) -> Cost:
    """Return the cost of the training whose history is ``path``; raise UserError if it has none."""
    history.check(path)
    history.digest(path)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        flops = sum(int(row["training_flops"]) for row in rows)
        seconds = sum(float(row["processor_seconds"]) for row in rows)
        joules = [float(row["energy_joules"]) for row in rows if row["energy_joules"]]
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: not readable as the costs of a training ({error})") from None
    if not flops:
        raise UserError(f"{path}: found no training in it, expected a history of at least one epoch")
    return Cost(len(rows), flops, seconds, sum(joules) if len(joules) == len(rows) else None)


def main(paths: list[str]) -> None:
    """Print the costs of the trainings with the histories ``paths``."""
    costs = [(path, cost(path)) for path in paths]
    print(LINE.format("epochs", "training_flops", "processor_seconds", "energy_kJ", "epochs_equal_compute", "training"))
    for path, of_path in costs:
        energy = "" if of_path.joules is None else f"{of_path.joules / 1e3:.1f}"
        equal = of_path.epochs_equal_compute(costs[0][1])
        numbers = of_path.epochs, f"{of_path.flops:.4g}", f"{of_path.processor_seconds:.0f}", energy, equal
        print(LINE.format(*numbers, Path(path).parent))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
