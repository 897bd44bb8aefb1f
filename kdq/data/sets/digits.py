"""The handwritten digits that scikit-learn ships: 1,797 images of 8x8, no download."""

import hashlib

import torch

from kdq.data.data_sets import Declared, Images
from kdq.data.prepared import Raw, split

TEST_SEED = 0  # the test part does not depend on the seed of the validation split


class DataSets(Declared):
    """The digits."""

    sizes = {"digits": Images(1797, 8, 1, 10)}


def load(dataset: str, settings: dict) -> Raw:
    """Return the digits, uint8 (M, 1, 8, 8): 17 grey levels spread over 0..255, a fixed ``test_fraction`` as test.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images)[:, None].mul(255 / 16).round().to(torch.uint8)
    labels = torch.from_numpy(digits.target).long()
    classes = [str(digit) for digit in range(10)]
    content = hashlib.sha256(images.numpy().tobytes() + labels.to(torch.uint8).numpy().tobytes()).hexdigest()
    test_fraction = settings.get("test_fraction", 0.2)
    source = {"kind": "scikit-learn digits", "sha256": content, "test_fraction": test_fraction}
    return Raw(*split(images, labels, test_fraction, TEST_SEED, classes, "test"), classes, source)
