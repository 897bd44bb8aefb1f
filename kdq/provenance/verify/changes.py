"""What has changed since a product was made: files of code, by the ledger, and keys."""

import json

from kdq.errors import shown
from kdq.provenance import ledger
from kdq.provenance.fingerprint import Fingerprints
from kdq.provenance.verify.claims import Claim
from kdq.study.products import Product


def changed_code(code: Fingerprints, product: Product, claim: Claim, note: dict[str, str] | None) -> list[str]:
    """Return the files of code that changed.

    ``note`` holds the digests behind the claimed fingerprint; without it one text names all that the code begins with.
    """
    if not product.code or claim.code == code.of(*product.code):
        return []
    if note is None:
        return [f"{', '.join(product.code)} or what is imported there"]
    return ledger.changed(note, code.digests(*product.code))


def changed_keys(product: Product, claim: Claim) -> list[str]:
    """Return ``key: before -> now`` of each key that changed, of a list or a table what is new, gone or other."""
    now = json.loads(json.dumps(product.keys))  # as they are read from a file
    return [
        f"{key}: {_change(claim.keys, now, key)}"
        for key in sorted((now.keys() | claim.keys.keys()) - product.unseen.keys())
        if claim.keys.get(key) != now.get(key) or (key in now) != (key in claim.keys)
    ]


def _change(before: dict, now: dict, key: str) -> str:
    old, new = before.get(key), now.get(key)
    if type(old) is type(new) and isinstance(new, (list, dict)):
        members = {"new": [each for each in new if each not in old], "gone": [each for each in old if each not in new]}
        if isinstance(new, dict):
            members["other"] = [each for each in new if each in old and new[each] != old[each]]
        if any(members.values()):
            return ", ".join(f"{word} {shown(found)}" for word, found in members.items() if found)
    return f"{_value(before, key)} -> {_value(now, key)}"


def _value(keys: dict, key: str) -> str:
    return shown(keys[key]) if key in keys else "nothing"
