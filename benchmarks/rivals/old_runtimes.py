"""Compare ONNX files of this package in old versions of ONNX Runtime with the installed one."""

import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import onnx

PREDICTIONS = Path(__file__).with_name("predictions.py")


def logits_and_operators(python: str, file, images, place) -> tuple[np.ndarray, Counter]:
    """Return the logits of ``images``, a .npy file of uint8 (M, C, H, W), and the operators that the runtime made.

    ``python`` runs the ONNX Runtime in question; ``place`` is a file for the logits. Raise RuntimeError with its last
    line if it can't run the file.
    """
    command = [python, str(PREDICTIONS), str(file), str(images), str(place)]
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if result.returncode:
        raise RuntimeError(f"{file}: {(result.stderr.strip().splitlines() or ['no message'])[-1]}")
    return np.load(place), Counter(node.op_type for node in onnx.load(f"{place}.onnx").graph.node)


def compared(python: str, reference: str, file, images, folder: Path) -> dict:
    """Return how an ONNX file does in the runtime of ``python`` beside that of ``reference``, in plain values."""
    logits, operators = logits_and_operators(python, file, images, folder / "logits.npy")
    expected, expected_operators = logits_and_operators(reference, file, images, folder / "expected.npy")
    return {
        "agreement": float((logits.argmax(1) == expected.argmax(1)).mean()),
        "largest_difference": float(abs(logits - expected).max()),
        "integer_convolutions": operators["QLinearConv"],
        "expected_integer_convolutions": expected_operators["QLinearConv"],
        "float_convolutions": operators["Conv"] + operators["FusedConv"],
    }
