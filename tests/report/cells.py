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
        "sparsity": 0.0,
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


RUNTIMES = {"onnxruntime": "1.32.0", "openvino": "2026.4.1"}


def latency(recipe, seed=0, ms=1.0, float_ms=None, bfloat16_ms=None, runtimes=RUNTIMES, top1=0.9, busy="", **facts):
    """A cell's latency in runtimes each twice as quick as the one before; without ``float_ms`` of a float network.

    The bfloat16 version of the float network ran in OpenVINO and PyTorch alone, if there is any.
    """
    found = {}
    network = "float" if float_ms else "model"
    for index, (name, version) in enumerate(runtimes.items()):
        times = {"model": ms / 2**index} | ({"float": float_ms / 2**index} if float_ms else {})
        times |= {f"{network}@bfloat16": bfloat16_ms / 2**index} if bfloat16_ms and name == "openvino" else {}
        found[name] = times_of(version, times)
    if bfloat16_ms:
        found["torch"] = times_of("2.14.1", {network: 2 * (float_ms or ms), f"{network}@bfloat16": 2 * bfloat16_ms})
    return {
        "dataset": "digits",
        "seed": seed,
        "recipe": recipe,
        "onnx": {"bytes": 700, "test": {"images": 100, "top1": top1, "agreement": 0.995}},
        "processor": {"name": "AMD EPYC 9B45", "flags": ["avx512_vnni"]},
        "threads": 1,
        "load": 0.1,
        "busy": busy,
        "runtimes": {} if busy else found,
        **facts,
    }


def times_of(version, times):
    """A runtime's times: images of large batches take half as long, the ratios vary by a tenth."""
    ratios = {}
    if "model" in times:
        for name in times.keys() - {"model"}:
            ratio = times[name] / times["model"]
            at_one, at_many = ({"median": x, "least": 0.9 * x, "most": 1.1 * x} for x in (ratio, 1.5 * ratio))
            ratios[name] = {"1": at_one, "128": at_many}
    return {
        "version": version,
        "milliseconds": {name: {"median": ms, "least": 0.9 * ms} for name, ms in times.items()},
        "images_per_second": {name: {"median": 2000 / ms, "most": 2200 / ms} for name, ms in times.items()},
        "processor_milliseconds": times,
        "speedups": ratios,
    }


def records(frame) -> list[dict]:
    """The rows of a table, None for a missing value."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")
