"""What a model's files score on the test images, beside the float network that they come from."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kdq.data.prepared import Prepared
from kdq.deploy import export
from kdq.evaluate.significance import bootstrap_images
from kdq.evaluate.stage import check_fits, predict
from kdq.models.file import read, to_network


@dataclass(frozen=True)
class Score:
    """What a file reaches on the test images: shares of 1.

    ``difference`` is its top-1 accuracy minus that of its float parent on the same images, in ``low`` .. ``high`` with
    a confidence of 95%; ``agreement`` is the share of images on which both predict the same class.
    """

    file: str
    size_bytes: int
    top1: float
    difference: float
    low: float
    high: float
    agreement: float


def scores(onnx, model, prepared: Prepared, reference: Tensor, device: torch.device) -> list[Score]:
    """Return what two files of a model score, ``onnx`` in ONNX Runtime and ``model`` in this package.

    ``reference`` int16 (M,) are the classes that the float parent predicts for the test images.
    """
    file, images = read(model), prepared.test.images
    check_fits(file, model, prepared)
    logits = {onnx: export.run(onnx, images), model: predict(to_network(file, model), images, device)}
    return [score(path, of_file.argmax(1), reference, prepared.test.labels) for path, of_file in logits.items()]


def score(path, predicted: Tensor, reference: Tensor, labels: Tensor) -> Score:
    """Return the score of a file that predicts the classes ``predicted`` (M,)."""
    correct, expected = (predicted == labels).numpy(), (reference == labels).numpy()
    interval = bootstrap_images(correct[None], expected[None])
    return Score(
        Path(path).name,
        Path(path).stat().st_size,
        float(correct.mean()),
        float(correct.mean() - expected.mean()),
        interval.low,
        interval.high,
        float((predicted == reference).double().mean()),
    )
