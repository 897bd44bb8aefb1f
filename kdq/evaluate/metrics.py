"""Metrics of predictions: pure functions of logits and labels."""

import torch
import torch.nn.functional as F
from torch import Tensor

CALIBRATION_BINS = 15


def top_k_accuracy(logits: Tensor, labels: Tensor, k: int) -> float:
    """Return the share of rows of logits (M, C) with the label (M,) among the ``k`` largest; 1 if classes <= k."""
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return (best == labels[:, None]).any(1).double().mean().item()


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Return the mean negative log-likelihood of the labels (M,) under logits (M, C), in nats."""
    return F.cross_entropy(logits.double(), labels).item()


def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = CALIBRATION_BINS) -> float:
    """Return the mean |accuracy - confidence| over ``bins`` equal bins of confidence, weighted by their size.

    Logits (M, C), labels (M,). Source: Guo et al., On Calibration of Modern Neural Networks, arXiv:1706.04599, eq. 3.
    """
    confidence, prediction = logits.double().softmax(1).max(1)
    gap = (prediction == labels).double() - confidence
    # bins are (i / n, (i + 1) / n], as in the paper
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1
    totals = torch.zeros(bins, dtype=torch.float64).index_add_(0, index, gap)
    return totals.abs().sum().item() / len(labels)


def agreement(predictions: Tensor, references: Tensor) -> float:
    """Return the share of images for which two models predict the same class; predictions are (M,) classes."""
    return (predictions == references).double().mean().item()
