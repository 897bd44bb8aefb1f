"""Metrics of a small study, as ``evaluate`` writes them, and tables as plain values."""

KINDS = {"teacher": "root", "kd": "distill", "dkd": "distill", "rtn": "quantize", "gpfq": "quantize", "qat": "retrain"}
LAYERS = ("conv1", "fc", "layer1.0.conv1", "layer1.0.conv2")


def cell(recipe, seed=0, top1=0.9, keys=None, file_bytes=1000, errors=(), dataset="digits", validation=None, widths=()):
    """One cell's metrics; ``errors`` are its layers' relative errors, none for a float model, ``widths`` their bits."""
    bits, activations = (keys or {}).get("bits", 4), (keys or {}).get("activations", 32)
    widths = widths or [bits] * len(errors)
    layers = [
        {"name": name, "weights": 10, "bits": width, "levels": "2^b", "relative_error": error}
        for name, error, width in zip(LAYERS, errors, widths, strict=False)
    ]
    part = {"images": 100, "top1": top1, "top5": 1.0, "cross_entropy": 1 - top1, "expected_calibration_error": 0.05}
    if "/" in recipe:
        part |= {"agreement_parent": 0.75, "agreement_root": 0.5}
    return {
        "dataset": dataset,
        "seed": seed,
        "recipe": recipe,
        "keys": keys or {},
        "file_bytes": file_bytes,
        "entropy_bytes": file_bytes * 3 // 4 if layers else None,
        "nominal_bits": sum(widths) / len(widths) if layers else 32.0,
        "parameters": 40,
        "quantized_weights": 10 * len(layers),
        "layers": layers,
        "macs": 1000,
        "bit_operations": 1000 * (sum(widths) // len(widths) if layers else 32) * (activations if layers else 32),
        "activation_bits": activations,
        "test": part,
        "validation": part | (validation or {}),
    }


def study(seeds=(0, 1)):
    """A teacher, two students and both quantizers at two widths on the teacher and one student."""
    cells = []
    for seed in seeds:
        cells += [
            cell("teacher", seed, 0.95 + 0.01 * seed, file_bytes=8000),
            cell("teacher/kd", seed, 0.93, file_bytes=4000),
            cell("teacher/dkd,alpha=2", seed, 0.94, {"alpha": 2.0, "beta": 8.0}, file_bytes=4000),
        ]
        for place, (parent, size) in enumerate((("teacher", 8000), ("teacher/kd", 4000))):
            for quantizer, loss in (("rtn", 0.2), ("gpfq", 0.1)):
                for bits in (2, 4):
                    top1, errors = 0.93 - loss / bits - 0.01 * place, [loss / bits] * 4
                    recipe = f"{parent}/{quantizer},bits={bits}"
                    cells.append(cell(recipe, seed, top1, {"bits": bits}, size * bits // 32, errors))
    return cells


def budgeted(network="teacher", seed=0, widths=(2, 8, 3, 3), budget=4):
    """A cell whose layers have bits of their own, in the order of ``LAYERS``."""
    return cell(f"{network}/gpfq,budget={budget}", seed, 0.92, errors=[0.1] * len(widths), widths=widths)


def records(frame) -> list[dict]:
    """The rows of a table, None for a missing value."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")
