"""The model card of a folder to give away: metadata and text, with numbers from the model's files alone."""

import ast
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

import kdq
from kdq.data.cifar_files import DESCRIPTIONS
from kdq.data.prepared import Prepared
from kdq.deploy.file_scores import Score
from kdq.deploy.hub_configs import loads_in_timm, normalisation, torchvision_name
from kdq.deploy.machine import processor
from kdq.errors import UserError, reason
from kdq.models.channels import KEY as SHRUNK
from kdq.models.file import ModelFile
from kdq.recipe.path import Cell, name_of
from kdq.recipe.stages import find_stages

RUNS_IN = {"model.onnx": "ONNX Runtime", "model.safetensors": "KDQ"}


@dataclass(frozen=True)
class Facts:
    """What a card is about: a cell, its stages with their keys, its files, and what was measured on them.

    ``stages`` holds a dict of ``stage`` and ``keys`` each; ``parent`` is the recipe of the float parent, with the share
    ``parent_top1`` of test images that it classifies right; ``latency`` is empty if no times were measured; the ONNX
    file ``takes_bytes`` (N, H, W, C) or floats (N, C, H, W).
    """

    cell: Cell
    stages: list[dict]
    file: ModelFile
    prepared: Prepared
    metrics: dict
    scores: list[Score]
    parent: str
    parent_top1: float
    latency: dict
    takes_bytes: bool = False

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return tuple(self.prepared.test.images.shape[1:])

    @property
    def source(self) -> str:
        """Where the root was imported from, "" if it was trained."""
        keys = self.stages[0]["keys"]
        return "" if keys.get("source", "train") == "train" else keys.get("repository") or "a local folder"


def card(facts: Facts) -> str:
    """Return the content of ``README.md``."""
    sections = (_title, _stages, _results, _speed, _input, _loading, _license)
    body = "\n\n".join(text for section in sections if (text := section(facts)))
    return f"---\n{_metadata(facts).to_yaml()}\n---\n\n{body}\n"


def checked(path, text: str) -> str:
    """Return a card's content; raise UserError that names ``path`` if its metadata are none of a model card."""
    try:
        data = ModelCard(text).data
    except Exception as error:  # noqa: BLE001, the hub's client and YAML raise errors of many kinds
        raise UserError(f"{path}: no valid model card ({reason(error)})") from None
    if not data.eval_results:
        raise UserError(f"{path}: no valid model card: its metadata have no results")
    return text


def _metadata(facts: Facts) -> ModelCardData:
    dataset, architecture = facts.cell.dataset, facts.file.header["architecture"]["architecture"]
    told = {"quantized": _bits(facts), "pruned": _pruned(facts)}
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=DESCRIPTIONS[dataset].repository if dataset in DESCRIPTIONS else dataset,
            dataset_name=dataset,
            dataset_split="test",
            metric_type="accuracy",
            metric_name=f"top-1 accuracy of {score.file} in {RUNS_IN[score.file]}",
            metric_value=score.top1,
        )
        for score in facts.scores
    ]
    licence = {"license": "other", "license_name": "see-license-section"} if facts.source else {"license": "mit"}
    return ModelCardData(
        **licence,
        library_name="kdq",
        pipeline_tag="image-classification",
        tags=["kdq", "onnx", architecture, *(tag for tag, words in told.items() if words)],
        datasets=[DESCRIPTIONS[dataset].repository] if dataset in DESCRIPTIONS else None,
        metrics=["accuracy"],
        model_name=facts.cell.recipe,
        eval_results=results,
    )


def _bits(facts: Facts) -> str:
    """Return the bits of weights and activations in words, "" for a float model."""
    points = {point.bits for point in facts.file.codes.points}
    if not facts.file.codes:
        return ""
    weights = f"weights of {facts.metrics['nominal_bits']:.3g} bits"
    return f"{weights}, activations of {max(points)} bits" if points else f"{weights}, float activations"


def _pruned(facts: Facts) -> str:
    """Return the share of the weights that were pruned and whether channels were, in words."""
    weights = f", {100 * facts.metrics['sparsity']:.3g}% of the weights pruned" if facts.file.masks else ""
    return weights + (", channels pruned" if SHRUNK in facts.file.header["architecture"] else "")


def _title(facts: Facts) -> str:
    cell, network = facts.cell, facts.file.header["architecture"]["architecture"]
    return "\n".join(
        [
            f"# {network} for {cell.dataset}: {_bits(facts) or 'float'}{_pruned(facts)}",
            "",
            f"An image classifier of {len(facts.prepared.classes)} classes, made by KDQ from the recipe",
            f"`{cell.recipe}` on the data set {cell.dataset} with seed {cell.seed}.",
        ]
    )


def _stages(facts: Facts) -> str:
    types = find_stages(Path(kdq.__file__).parent)
    lines = ["## How it was made", ""]
    for number, entry in enumerate(facts.stages, 1):
        tree = ast.parse(types[name_of(entry["stage"])].file.read_bytes())
        words = " ".join(ast.get_docstring(tree).split("\n\n")[0].split())
        given = {key: value for key, value in sorted(entry["keys"].items()) if value not in ("", [], None)}
        keys = ", ".join(f"`{key}={_value(value)}`" for key, value in given.items())
        lines.append(f"{number}. `{entry['stage']}`: {words} Keys: {keys}.")
    return "\n".join(lines)


def _value(value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _results(facts: Facts) -> str:
    rows = [
        f"| `{score.file}` | {RUNS_IN[score.file]} | {score.size_bytes:,} | {score.top1:.2%} "
        f"| {_points(score.difference)} ({_points(score.low)} to {_points(score.high)}) | {score.agreement:.2%} |"
        for score in facts.scores
    ]
    return "\n".join(
        [
            "## What it scores",
            "",
            f"Each file was read again after it was written, and run on the {len(facts.prepared.test.labels):,} test",
            f"images ({processor()['name']}). The float parent is `{facts.parent}`, with a top-1 accuracy of",
            f"{facts.parent_top1:.2%} on the same images. In brackets is the 95% interval of the difference, in",
            "points, by a paired bootstrap over the test images; other seeds may differ by more.",
            "",
            "| file | run in | bytes | top-1 | difference from the float parent | same class as the float parent |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )


def _points(share: float) -> str:
    """Return a difference of shares in points.

    >>> _points(-0.0123), _points(0.0), _points(0.002)
    ('-1.23', '0.00', '+0.20')
    """
    return f"{100 * share:+.2f}" if round(100 * share, 2) else "0.00"


def _speed(facts: Facts) -> str:
    runtimes = facts.latency.get("runtimes", {})
    rows = [_speed_row(runtime, times, role) for runtime, times in runtimes.items() for role in times["milliseconds"]]
    if not rows:
        return ""
    machine, load, threads = facts.latency["processor"]["name"], facts.latency["load"], facts.latency["threads"]
    return "\n".join(
        [
            "## How fast it is",
            "",
            f"On {machine}, {threads} thread{'s' * (threads > 1)}, load {load:g} before the first run.",
            "All networks of a runtime ran in turn; the last column is the median ratio of their times at batch 1",
            "(lowest to highest).",
            "",
            "| runtime | network | ms at batch 1: median (least) | images/s at batch 128 | `model.onnx` is faster by |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def _speed_row(runtime: str, times: dict, role: str) -> str:
    """Return the line of a table on the network of a ``role`` of :mod:`kdq.deploy.latency`."""
    file, _, precision = role.partition("@")
    named = {"model": "`model.onnx`", "float": "float parent", "root": "root of the recipe"}
    if runtime == "torch":  # which runs float networks alone
        named["model"] = named["float"]
    network = named[file] + (f", in {precision}" if precision else "")
    milliseconds, rate = times["milliseconds"][role], times["images_per_second"][role]["median"]
    ratio = times["speedups"].get(role, {}).get("1")
    faster = (
        f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})" if ratio and runtime != "torch" else ""
    )
    numbers = f"{milliseconds['median']:.3g} ({milliseconds['least']:.3g}) | {rate:,.4g}"
    return f"| {runtime} {times['version']} | {network} | {numbers} | {faster} |"


def _input(facts: Facts) -> str:
    (channels, height, width), classes = facts.size, facts.prepared.classes
    mean, std = map(_listed, normalisation(facts.file))
    colours = {1: "grey levels", 3: "red, green, blue"}.get(channels, f"{channels} channels")
    floats = f"float32 (N, {channels}, {height}, {width}) in [0, 1], {colours}, any N"
    inputs = f"* Input `images`: {floats}."
    if facts.takes_bytes:
        bytes_ = f"uint8 (N, {height}, {width}, {channels}), {colours}, any N"
        inputs = f"* Input `images` of `model.onnx`: {bytes_}; of the network in KDQ: {floats}."
    return "\n".join(
        [
            "## What goes in and comes out",
            "",
            inputs,
            f"* The network normalises them itself (mean {mean}, deviation {std}): do not normalise them before. So",
            "  `preprocessor_config.json`, for the image processors of transformers, resizes and scales to [0, 1] and",
            "  has `do_normalize: false`; its `image_mean` and `image_std` are for other libraries that load the",
            "  weights alone.",
            f"* Output `logits`: float32 (N, {len(classes)}), one per class: {', '.join(map(str, classes))}.",
        ]
    )


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _loading(facts: Facts) -> str:
    channels, height, width = facts.size
    mode, batch = ("L" if channels == 1 else "RGB"), f"reshape(1, {height}, {width}, {channels})"
    images = f"pixels.{batch}" if facts.takes_bytes else "images"
    blocks = [
        "## How to load it",
        "An image:",
        _python(
            "import numpy as np",
            "from PIL import Image",
            "",
            f'pixels = np.asarray(Image.open("image.png").convert("{mode}").resize(({width}, {height})))',
            f"images = np.float32(pixels.{batch}.transpose(0, 3, 1, 2)) / 255",
        ),
        "In ONNX Runtime:",
        _python(
            "import onnxruntime",
            "",
            'session = onnxruntime.InferenceSession("model.onnx")',
            f'logits = session.run(["logits"], {{"images": {images}}})[0]',
        ),
        "In KDQ, with PyTorch:",
        _python(
            "import kdq.models, torch",
            "",
            'network = kdq.models.load("model.safetensors")',
            "logits = network(torch.from_numpy(images))",
        ),
    ]
    return "\n\n".join(blocks + _elsewhere(facts))


def _elsewhere(facts: Facts) -> list[str]:
    """Return how torchvision and timm load the weights of a float ResNet, nothing for other models."""
    if not (name := torchvision_name(facts.file)):
        return []
    architecture, channels, classes = facts.file.header["architecture"], facts.size[0], len(facts.prepared.classes)
    is_small = architecture["stem"] == "cifar"
    kernel = "3, padding=1" if is_small else "7, 2, padding=3"
    conv = [f"network.conv1 = torch.nn.Conv2d({channels}, 64, {kernel}, bias=False)"]
    pool = ["network.maxpool = torch.nn.Identity()"] if is_small else []
    torchvision = [
        *("import torch, torchvision", "from safetensors.torch import load_file", ""),
        f"network = torchvision.models.{name}(num_classes={classes})",
        *(conv if is_small or channels != 3 else []),
        *pool,
        'network.load_state_dict(load_file("model.safetensors"))',
    ]
    timm = ["import timm", "", 'network = timm.create_model("local-dir:.", pretrained=True)']
    if not loads_in_timm(facts.file):
        made = f'network = timm.create_model("{name}", num_classes={classes})'
        timm = ["import timm, torch", *torchvision[1:3], made, *conv, *pool, torchvision[-1]]
    scale = f"`(images - mean) / std` with mean {_listed(architecture['mean'])}, std {_listed(architecture['std'])}"
    why = "Neither has an argument for the stem of small images, so two modules are replaced. " if is_small else ""
    return [
        f"The weights have the names of torchvision and timm, which load them strictly. {why}Their networks expect "
        f"images that are normalised: {scale}.",
        _python(*torchvision),
        _python(*timm),
    ]


def _python(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])


def _license(facts: Facts) -> str:
    lines = ["## License", "", "MIT, see `LICENSE`: of KDQ and of what it made."]
    if facts.source:
        lines.append(f"The root of the recipe was imported from {facts.source}: the license of that network holds too.")
    return "\n".join(lines)
