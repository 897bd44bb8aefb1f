"""Names, places and checksums of the genuine files of CIFAR-10 and CIFAR-100."""

from dataclasses import dataclass

PARTS = ("train", "test")


@dataclass(frozen=True)
class Description:
    """Where a data set lies, and the checksums of its genuine content.

    ``train`` and ``test`` map the names of the original batches to their MD5. ``blocks`` holds per part the SHA-256 of
    each block of equally many images in the original order (labels as bytes, then pixels).
    """

    folder: str
    url: str
    archive_md5: str
    train: dict[str, str]
    test: dict[str, str]
    label_key: str
    repository: str
    revision: str
    parquet: dict[str, str]
    parquet_folder: str
    label_column: str
    blocks: dict[str, tuple[str, ...]]
    classes: tuple[str, ...]

    @property
    def archive(self) -> str:
        """The file name of the original archive."""
        return self.url.rsplit("/", 1)[-1]


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DESCRIPTIONS = {
    "cifar10": Description(
        folder="cifar-10-batches-py",
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        archive_md5="c58f30108f718f92721af3b95e74349a",
        train={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
        label_key="labels",
        repository="uoft-cs/cifar10",
        revision="0b2714987fa478483af9968de7c934580d0bb9a2",
        parquet={part: f"plain_text/{part}-00000-of-00001.parquet" for part in PARTS},
        parquet_folder="cifar10-parquet",
        label_column="label",
        blocks={
            "train": (
                "0d577ad18df43575d9a4604e9439c975ed0458e62fedce31bf342584486095b4",
                "119fc42c082d4eb9075f4be2ad8ead34f73523fd07bfa1e6eb72e4c0a9f4e234",
                "3920cc990b250c9f5858706bfdfa42e5916a3fb9c650076857c0eaeeb9ba22e9",
                "63d48826df4236930951424843f0f1f3e5fd6af00eecd863db9d08cc1c9cafb9",
                "ab505a476be12050fcd964679bf4f83ef3382722a31273e2d1c592fd7e312d11",
            ),
            "test": ("ecc0a6ddb5cb58330ce4f06c1825ec8c68baeade5baaacbb3cbdf8f385599213",),
        },
        classes=words("airplane automobile bird cat deer dog frog horse ship truck"),
    ),
    "cifar100": Description(
        folder="cifar-100-python",
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        label_key="fine_labels",
        repository="uoft-cs/cifar100",
        revision="aadb3af77e9048adbea6b47c21a81e47dd092ae5",
        parquet={part: f"cifar100/{part}-00000-of-00001.parquet" for part in PARTS},
        parquet_folder="cifar100-parquet",
        label_column="fine_label",
        blocks={
            "train": (
                "501150a86398c910e1d915940a8018cfe6356d0c045cbd8fd86930d58e3d313b",
                "fa990ca8a8a20cb2878e8394c6cde721f85c3dd05dd81c873c2db7e5c43cf44f",
                "048283f120ae1aa6fc9bff8d11f99a87b1dee62349fee6f3956c5783ec88f576",
                "8f7194b6d68a526309534be19186bc3905f68b9396cdcf29b8cb4457faa37513",
                "b6c24b6f7488fc36f4e5d9ddcecd69498744a5427d14009b49a6c9381732b233",
            ),
            "test": ("27d6227ddcb0f8c25f95e33561b0c0de971cd9443f001c3e0077b94ac57d9aa1",),
        },
        classes=words(
            "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly "
            "camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup "
            "dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower "
            "leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid "
            "otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray "
            "road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar "
            "sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle "
            "wardrobe whale willow_tree wolf woman worm"
        ),
    ),
}
