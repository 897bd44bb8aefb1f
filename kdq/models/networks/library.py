"""Networks of timm and torchvision: any of their classifiers, as images in [0, 1] in, logits out.

A network has the library's own layers and names. Its model file names the library's version: another one may build
another network of the same name, which the strict loading of its tensors notices.
"""

import re
from collections.abc import Iterable
from types import ModuleType

import torch
from torch import Tensor, nn

from kdq.errors import UserError, nearest, reason, shown
from kdq.models.family import LIBRARY_KEYS, Family
from kdq.models.libraries import LIBRARIES, installed, library_name
from kdq.models.preprocessing import preprocess

EMBEDDING = "embedding"
INSTALL = {"timm": "pip install timm", "torchvision": "pip install torchvision"}


class Architectures(Family):
    """All classifiers of timm and torchvision."""

    spelling = ", ".join([f"{library}/<name>" for library in LIBRARIES])
    keys = LIBRARY_KEYS
    parse = staticmethod(library_name)


class LibraryNetwork(nn.Module):
    """A classifier of a library behind its normalisation; as in :class:`kdq.models.network.Network` it is no state.

    ``mean`` and ``std`` have a value per channel that the network takes: grey images are given as three equal channels
    to one for colours. ``preprocessing`` are arguments of :func:`kdq.models.preprocessing.preprocess`, None for images
    as they are; ``side`` is that of the images the network then sees, 0 if it is not fixed.
    ``classifier`` is the name of the last layer in ``network``, "" if there is no single one. :func:`build` sets
    ``architecture``.
    """

    architecture: dict

    def __init__(self, network: nn.Module, library: str, *, classifier: str, mean, std, side: int, preprocessing=None):
        super().__init__()
        self.network, self.library, self.classifier = network, library, classifier
        self.side, self.preprocessing = side, preprocessing
        self._places, self._readers = None, {}
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def pixels(self, images: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [0, 1] as the network takes them."""
        if self.preprocessing:
            images = preprocess(images, **self.preprocessing)
        return (images - self.mean) / self.std

    @property
    def places(self) -> dict[str, object]:
        """What the library calls the feature map of each stage, the deepest of its reduction; empty if it has none."""
        if self._places is None:
            self._places = _module(self.library).feature_maps(self.network, self.side)
        return self._places

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the feature maps that the library gives, in order, each of half the side of the one before."""
        return tuple(self.places)

    @property
    def taps(self) -> tuple[str, ...]:
        """All names that ``forward`` accepts as taps."""
        return (*self.stages, *([EMBEDDING] if self.classifier else []))

    def forward(self, images: Tensor, taps: tuple[str, ...] = ()):
        """Return logits (B, classes) of images (B, C, H, W) in [0, 1]; with ``taps``, ``(logits, {tap: feature})``.

        Features: of a stage (B, C, H, W), and ``embedding`` (B, D), the last layer's input. Raise UserError for others.
        """
        if not taps:
            return self.network(self.pixels(images))
        if missing := [tap for tap in taps if tap not in self.taps]:
            name, gives = type(self.network).__name__, ", ".join(self.taps) or "logits alone"
            raise UserError(f"the network {name} has no {missing[0]}, its library gives {gives}; choose another method")
        embeddings, stages = [], tuple(tap for tap in taps if tap != EMBEDDING)
        last = self.network.get_submodule(self.classifier) if self.classifier else nn.Identity()
        hook = last.register_forward_pre_hook(lambda layer, inputs: embeddings.append(inputs[0]))
        try:
            logits, maps = self._maps(self.pixels(images), stages)
        except (AssertionError, IndexError, NotImplementedError) as error:  # the library's own checks
            name = type(self.network).__name__
            raise UserError(f"the network {name} does not give {', '.join(stages)} ({reason(error)})") from None
        finally:
            hook.remove()
        features = dict(zip(stages, maps, strict=True))
        features |= {EMBEDDING: embeddings[0].flatten(1)} if EMBEDDING in taps else {}
        return logits, {tap: features[tap] for tap in taps}

    def _maps(self, images: Tensor, stages: tuple[str, ...]) -> tuple[Tensor, Iterable[Tensor]]:
        if not stages:
            return self.network(images), []
        if stages not in self._readers:
            self._readers[stages] = _module(self.library).reader(self.network, [self.places[stage] for stage in stages])
        return self._readers[stages](images)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_readers": {}}  # a copy reads its own layers

    def _apply(self, function, *arguments, **options):
        self._readers.clear()  # they may hold buffers, which are replaced
        return super()._apply(function, *arguments, **options)


def _module(library: str) -> ModuleType:
    """Return the module of this package for networks of a library, which it imports."""
    if library == "timm":
        from kdq.models import timm_networks as module
    else:
        from kdq.models import torchvision_networks as module
    return module


def library_of(architecture: str) -> tuple[ModuleType, str]:
    """Return the module for networks of an architecture's library, and the network's name there.

    Raise UserError if the library is not installed or has no such network.
    """
    library, name = library_name(architecture)
    try:
        module = _module(library)
    except ImportError as error:
        raise UserError(f"architecture {architecture!r}: {reason(error)}; {INSTALL[library]}") from None
    if name not in (names := module.names()):
        hint = nearest(name, names) or f", such as {names[0]}"
        raise UserError(f"architecture {architecture!r}: {library} {installed(library)} has no such classifier{hint}")
    return module, name


def described(keys: dict, *, classes: int, channels: int, side: int, mean: list[float], std: list[float]) -> dict:
    """Return the arguments of :func:`build` for a stage's resolved ``keys``, see :func:`kdq.models.registry.described`.

    Images are normalised as those that ``weights`` were trained with; without weights by the data set's statistics. A
    root of ``source=library`` has the classes of its weights too, and resizes and crops images as for their published
    accuracy.
    """
    module, name = library_of(keys["architecture"])
    facts = {"architecture": keys["architecture"], "library": installed(library_name(keys["architecture"])[0])}
    weights, resize = keys.get("weights"), keys.get("resize", 0)
    if weights:
        mean, std = module.normalisation(name, weights)
    elif module.COLOURS_ONLY and channels == 1:
        mean, std = mean * 3, std * 3
    shown_as = {"side": resize or side, "resize": resize}
    if keys.get("source") == "library":
        classes, preprocessing = len(module.class_names(name, weights)), module.preprocessing(name, weights)
        shown_as = {"side": preprocessing["crop"][0], "resize": 0, "preprocessing": preprocessing}
    return facts | {"classes": classes, "channels": channels, "mean": mean, "std": std} | shown_as


def build(architecture: str, *, weights: str = "", whole: bool = False, **arguments) -> LibraryNetwork:
    """Return a network with new weights, or with those that ``weights`` names; its classifier is new unless ``whole``.

    ``arguments`` are what :func:`described` returns. Raise UserError if there is no such network or no such weights, or
    if it takes no images of that size.
    """
    network = _assembled(architecture, weights, whole, **arguments)
    network.architecture = {"architecture": architecture, **arguments}
    _try(network, architecture, arguments["classes"], arguments["channels"], arguments["side"])
    return network


def outline(architecture: str, **arguments) -> dict[str, tuple]:
    """Return the shapes of all tensors."""
    return {name: tuple(value.shape) for name, value in on_meta(architecture, **arguments).state_dict().items()}


def on_meta(architecture: str, **arguments) -> LibraryNetwork:
    """Return a network without memory for its tensors; one that computes as it is made, such as RegNet, is made first.

    Raise UserError as :func:`build` does.
    """
    try:
        with torch.device("meta"):
            network = _assembled(architecture, **arguments)
    except UserError:
        network = _assembled(architecture, **arguments).to("meta")
    _try(network, architecture, arguments["classes"], arguments["channels"], arguments["side"])
    return network


def _assembled(
    architecture,
    weights="",
    whole=False,
    *,
    library,
    classes,
    channels,
    mean,
    std,
    side,
    resize,
    preprocessing=None,
) -> LibraryNetwork:
    module, name = library_of(architecture)
    if not isinstance(library, str) or not re.fullmatch(r"\d+(\.\w+)+(\+\w+)?", library):
        brand = library_name(architecture)[0]
        raise UserError(f"library: found {shown(library)}, expected a version of {brand} such as {installed(brand)}")
    if len(mean) != channels and (channels, len(mean)) != (1, 3):
        what = f"images of {channels} channels" if len(mean) == 3 else f"{len(mean)} values of mean"
        raise UserError(f"architecture {architecture!r}: found {what}, expected as many values of mean as channels")
    try:
        network = module.make(name, classes=classes, channels=len(mean), side=side, weights=weights, whole=whole)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001, the library's own checks are of many kinds
        raise UserError(f"architecture {architecture!r}: {reason(error, 300)}") from None
    if preprocessing is None and (resize or module.is_fixed(name)):
        preprocessing = {"size": [side, side], "resample": "bilinear", "crop": [side, side]}
    return LibraryNetwork(
        network,
        library_name(architecture)[0],
        classifier=module.classifier(network),
        mean=mean,
        std=std,
        side=side if preprocessing else 0,
        preprocessing=preprocessing,
    )


@torch.no_grad()
def _try(network: LibraryNetwork, architecture: str, classes: int, channels: int, side: int) -> None:
    """Raise UserError unless the network gives logits of so many classes for two images."""
    where, size = f"architecture {architecture!r}", f"images of {side} x {side} pixels"
    try:
        logits = network.eval()(torch.zeros(2, channels, side, side, device=network.mean.device))
    except Exception as error:  # noqa: BLE001, whatever the network does with images of another size
        raise UserError(
            f"{where}: takes no {size} ({reason(error, 300)}); choose another size by the key resize"
        ) from None
    network.train()
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (2, classes):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"{where}: gives {found} for 2 {size}, expected logits of {classes} classes")
