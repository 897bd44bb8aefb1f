"""Evaluate a model file: its metrics and its prediction for each image.

All is computed in float32 on images without augmentation. The predictions are kept: a descendant is compared with this
model without running it again, and two models are compared image by image.
"""

import json
import math
from pathlib import Path

import torch

from kdq.data.batches import evaluation_batches
from kdq.data.prepared import Prepared
from kdq.errors import UserError
from kdq.evaluate import predictions as predictions_file
from kdq.evaluate.metrics import agreement, cross_entropy, expected_calibration_error, top_k_accuracy
from kdq.evaluate.work import counted_layers, work
from kdq.models import archive
from kdq.models.file import ModelFile, to_network, weights_left

PARTS = ("validation", "test")
CELL = ("dataset", "seed", "recipe", "keys", "provenance")  # copied from a model's header


@torch.no_grad()
def predict(network: torch.nn.Module, images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return logits (M, classes), float32 on the CPU, of uint8 images (M, C, H, W)."""
    network = network.eval().to(device, memory_format=torch.channels_last)
    return torch.cat([network(batch.to(device)).float().cpu() for batch in evaluation_batches(images)])


def evaluate(file: ModelFile, path, prepared: Prepared, parent: Path | None, device: torch.device) -> tuple[dict, dict]:
    """Return ``(metrics, predictions)`` of a model file.

    ``parent`` is the file of the parent's predictions, None for a root. The metrics are plain values: for each part
    top-1, top-5, cross entropy in nats, expected calibration error, agreement with the parent and with the root
    (shares of 1), then sizes in bytes and bits, the arithmetic per image, and each quantized layer's relative output
    error. The predictions carry the root's classes along, so that a child needs only its parent's file.
    """
    network = to_network(file, path)
    check_fits(file, path, prepared)
    of_parent = predictions_file.read(parent)[1] if parent else {}
    metrics, predictions = {}, {}
    for part in PARTS:
        split = getattr(prepared, part)
        logits = predict(network, split.images, device)
        predicted = logits.argmax(1)
        ancestors = _ancestors(parent, of_parent, part, len(split.labels)) if parent else {}
        predictions[f"{part}_class"] = predicted.to(torch.int16)
        predictions |= {f"{part}_root_class": ancestors["root"]} if ancestors else {}
        predictions[f"{part}_log_likelihood"] = logits.log_softmax(1).gather(1, split.labels[:, None]).squeeze(1)
        metrics[part] = {
            "images": len(split.labels),
            "top1": top_k_accuracy(logits, split.labels, 1),
            "top5": top_k_accuracy(logits, split.labels, 5),
            "cross_entropy": cross_entropy(logits, split.labels),
            "expected_calibration_error": expected_calibration_error(logits, split.labels),
            **{f"agreement_{role}": agreement(predicted, classes) for role, classes in ancestors.items()},
        }
        if not math.isfinite(metrics[part]["cross_entropy"]):
            raise UserError(f"{path}: its logits on the {part} part are not finite")
    metrics |= sizes(file, path, network) | work(network, prepared.test.images[:1].to(device), file.codes, file.masks)
    header = {key: file.header[key] for key in CELL}
    return {**header, **metrics, "layers": layer_table(file, network)}, predictions


def check_fits(file: ModelFile, path, prepared: Prepared) -> None:
    """Raise UserError if the header lacks a cell's key or the classes or channels are not the data's."""
    if missing := [key for key in CELL if key not in file.header]:
        raise UserError(f"{path}: its header has no {missing[0]!r}, expected that of a model of this workflow")
    expected = {"classes": len(prepared.classes), "channels": prepared.train.images.shape[1]}
    for key, count in expected.items():
        found = file.header["architecture"].get(key, count)  # an imported model was checked against its data already
        if found != count:
            raise UserError(f"{path}: a network of {found} {key}, the data set {prepared.dataset!r} has {count}")


def _ancestors(parent, of_parent: dict, part: str, images: int) -> dict:
    """Return the classes that the parent and the root predict, by role."""
    of_root = {f"{part}_class": of_parent[f"{part}_root_class"]} if f"{part}_root_class" in of_parent else of_parent
    return {
        role: predictions_file.classes(parent, tensors, part, images)
        for role, tensors in (("parent", of_parent), ("root", of_root))
    }


def sizes(file: ModelFile, path, network: torch.nn.Module) -> dict:
    """Return the bytes of the file, and of its archive if it has codes; parameters; quantized weights and their bits.

    ``nominal_bits`` is the mean over these weights of log2 of the number of levels, 32 for a float model; layers that
    stay float in a quantized model are in the mean, with 32 bits per weight. Parameters are those of the network that
    was trained, whose BatchNorm is not folded. Of pruned layers only the weights that are left are counted;
    ``sparsity`` is the share of the weights of all convolutions and linear layers that was pruned.
    """
    trained = to_network(file, path, integer=False) if file.codes.points else network
    pruned = sum(int((~mask).sum()) for mask in file.masks.values())
    weights = sum(layer.weight.numel() for layer in counted_layers(trained).values())
    left = weights_left(file)
    quantized, kept = (sum(left[name] for name in layers) for layers in (file.codes, file.codes.kept))
    bits = sum(math.log2(weight.high - weight.low + 1) * left[name] for name, weight in file.codes.items())
    return {
        "file_bytes": Path(path).stat().st_size,
        "entropy_bytes": archive.size_bytes(path) if file.codes else None,
        "parameters": sum(parameter.numel() for parameter in trained.parameters()) - pruned,
        "sparsity": pruned / weights,
        "quantized_weights": quantized,
        "nominal_bits": (bits + 32 * kept) / (quantized + kept) if quantized else 32.0,
    }


def layer_table(file: ModelFile, network: torch.nn.Module) -> list[dict]:
    """Return one row per quantized layer, in order: name, number of weights left, and the facts in its header.

    Layers that stay float in a quantized model have 32 bits and the ``levels`` ``float``.
    """
    facts = dict.fromkeys(file.codes.kept, {"bits": 32, "levels": "float"})
    facts |= {name: weight.facts for name, weight in file.codes.items()}
    left = weights_left(file)
    # the header is sorted by name
    return [
        {"name": name, "weights": left[name], **facts[name]} for name, _ in network.named_modules() if name in facts
    ]


def describe(metrics: dict) -> str:
    """Return the metrics as one line for the log."""
    return json.dumps({part: round(metrics[part]["top1"], 4) for part in PARTS} | {"bytes": metrics["file_bytes"]})
