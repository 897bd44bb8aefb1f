"""The files outside the results that an imported root was made from, against what its header says of them."""

from collections.abc import Mapping

from kdq.errors import UserError
from kdq.provenance.file_digests import FileDigests
from kdq.roots.keys import DESCRIPTIONS, files, local_files

ROLES = frozenset({"weights", *(name for names in DESCRIPTIONS.values() for name in names)})


def differences(keys: dict, claimed: Mapping[str, str], digests: FileDigests) -> list[str]:
    """Return what is wrong with the files of a root of the resolved ``keys``, made from the digests ``claimed``.

    In a local folder all are compared. In a hub's repository the key ``sha256`` pins the weights, and the commit, which
    is a key too, the descriptions: the job compared these with it. Weights of a library have a pin for a name.
    """
    roles = files(keys)
    reasons = [f"{name} was not among its inputs" for role, name in roles.items() if role not in claimed]
    if not roles or reasons:
        return reasons
    try:
        expected = {role: digests.of(path) for role, path in local_files(keys).items()}
    except UserError as error:
        return [str(error)]
    if "sha256" in keys:
        expected = expected or {"weights": keys["sha256"]}
    return [f"{role} {roles[role]} has another digest" for role in expected if claimed[role] != expected[role]]
