"""From the name of a data set to its prepared parts."""

from kdq.data import cifar, digits, folder
from kdq.data.prepared import Prepared, Split, channel_statistics, split
from kdq.data.raw import Raw
from kdq.errors import UserError, nearest

DATASETS = ("cifar10", "cifar100", "digits", "folder")


def load(dataset: str, settings: dict) -> Raw:
    """The images of ``dataset`` as its source gives them.

    ``settings``: ``folder`` (where the files of data sets lie), ``download`` (whether missing ones may be fetched),
    ``test_fraction`` (of a data set without a test part), ``image_folder`` and ``image_size`` (of ``folder``).
    Raises UserError for an unknown data set, missing or changed files.
    """
    if dataset == "digits":
        return digits.load(settings)
    if dataset in ("cifar10", "cifar100"):
        return cifar.load(dataset, settings)
    if dataset == "folder":
        return folder.load(settings)
    raise UserError(f"dataset: unknown {dataset!r}, expected one of {', '.join(DATASETS)}{nearest(dataset, DATASETS)}")


def prepare(dataset: str, settings: dict, validation_fraction: float, split_seed: int) -> Prepared:
    """The images of ``dataset`` with a stratified validation part split off the training part.

    Mean and deviation are those of the training part that is left. Raises UserError as :func:`load` and
    :func:`kdq.data.prepared.split` do.
    """
    raw = load(dataset, settings)
    train, validation = split(raw.train_images, raw.train_labels, validation_fraction, split_seed, raw.classes)
    mean, std = channel_statistics(train.images)
    return Prepared(
        train=train,
        validation=validation,
        test=Split(raw.test_images, raw.test_labels),
        classes=raw.classes,
        mean=mean,
        std=std,
        dataset=dataset,
        source=raw.source,
        split_seed=split_seed,
    )
