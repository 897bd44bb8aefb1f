"""What other libraries need beside a model's weights: ``config.json`` and ``preprocessor_config.json``.

timm loads a float ResNet of width 1 with the ImageNet stem from ``config.json`` and ``model.safetensors``; an image
processor of transformers loads ``preprocessor_config.json``.
"""

from kdq.data.prepared import Prepared
from kdq.models import registry
from kdq.models.file import ModelFile

PROCESSOR = {"image_processor_type": "ViTImageProcessor"}  # resizes, scales, normalises: each as its keys say
BILINEAR = 2  # Pillow's number
EMBEDDINGS = {"resnet18": 512, "resnet34": 512, "resnet50": 2048}  # channels at width 1


def torchvision_name(file: ModelFile) -> str:
    """Return torchvision's and timm's name of the class that loads the model file strictly, "" if there is none."""
    facts = file.header["architecture"]
    plain = not (file.codes or file.masks or any(map(facts.get, ("head", *registry.CHANGES))))
    return facts["architecture"] if plain and facts["architecture"] in EMBEDDINGS and facts.get("width") == 1 else ""


def loads_in_timm(file: ModelFile) -> bool:
    """Return whether timm makes the network from ``config.json`` alone: it has no argument for the CIFAR stem."""
    return bool(torchvision_name(file)) and file.header["architecture"]["stem"] == "imagenet"


def config(file: ModelFile, prepared: Prepared) -> dict:
    """Return ``config.json``: the network, the classes, how it was made, and for timm how to load it."""
    facts = dict(file.header["architecture"])
    classes = dict(enumerate(prepared.classes))
    made = {key: file.header[key] for key in ("dataset", "seed", "recipe")}
    content = {
        "architecture": facts["architecture"],
        "num_classes": len(classes),
        "id2label": classes,
        "label2id": {name: index for index, name in classes.items()},
        "kdq": {**made, "architecture": facts},
    }
    if loads_in_timm(file):
        channels, height, width = prepared.test.images.shape[1:]
        content |= PROCESSOR | {  # of a folder for timm transformers reads the processor's name here
            "num_features": EMBEDDINGS[facts["architecture"]],
            "label_names": list(prepared.classes),
            "model_args": {"in_chans": channels},
            "pretrained_cfg": {
                **{"input_size": [channels, height, width], "mean": facts["mean"], "std": facts["std"]},
                **{"crop_pct": 1.0, "interpolation": "bilinear", "first_conv": "conv1", "classifier": "fc"},
            },
        }
    return content


def normalisation(file: ModelFile) -> tuple[list[float], list[float]]:
    """Return mean and deviation per channel, by which the network normalises images in [0, 1]."""
    facts = file.header["architecture"]
    facts = facts | facts.get("preprocessing", {})  # a network of transformers has them there
    return facts["mean"], facts["std"]


def preprocessor(file: ModelFile, prepared: Prepared) -> dict:
    """Return ``preprocessor_config.json``: images of the data set's size in [0, 1].

    They are not normalised, since the network does that; its mean and deviation stand there for networks of other
    libraries that load the weights alone.
    """
    channels, height, width = prepared.test.images.shape[1:]
    mean, std = normalisation(file)
    return {
        **PROCESSOR,
        "do_convert_rgb": channels == 3,
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": False,
        "image_mean": mean,
        "image_std": std,
    }
