"""Mutations of real files and values, as by faulty disks, broken transfers, people and attackers."""

import math
from random import Random

WRONG = (
    None,
    True,
    -1,
    0,
    1e308,
    math.nan,
    -math.inf,
    10**30,
    2**63,
    "",
    "a",
    "\0",
    "../../x",
    "/etc/passwd",
    [],
    {},
    [[]],
)
LENGTHS = (0, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def mutated_bytes(content: bytes, random: Random, others: list[bytes] = ()) -> bytes:
    """Return ``content`` with one to three of: flipped bits, a cut, a gap, a repetition, noise, a wrong length."""
    for _ in range(random.randint(1, 3)):
        content = random.choice(BYTE_CHANGES)(bytearray(content), random)
    return random.choice(others) if others and random.random() < 0.05 else content


def _flip(content, random):
    for _ in range(random.choice((1, 1, 1, 8, 64))):
        if content:
            content[_place(content, random)] ^= 1 << random.randrange(8)
    return bytes(content)


def _cut(content, random):
    return bytes(content[: random.choice((0, random.randrange(len(content) + 1)))])


def _gap(content, random):
    start = _place(content, random)
    del content[start : start + random.choice((1, 8, 100, 4096))]
    return bytes(content)


def _repeat(content, random):
    start = _place(content, random)
    return bytes(content[: start + random.choice((1, 8, 100))] + content[start:])


def _noise(content, random):
    start = _place(content, random)
    noise = random.choice((random.randbytes(16), b"\0" * 16, b"\xff" * 16, b"[" * 20_000, b"{}"))
    content[start : start + len(noise)] = noise
    return bytes(content)


def _lie(content, random):
    start = random.choice((0, 0, _place(content, random)))
    size = random.choice((4, 8))
    content[start : start + size] = (random.choice(LENGTHS) % 256**size).to_bytes(size, "little")
    return bytes(content)


def _place(content, random) -> int:
    """Draw a position, more often near the start, where headers are."""
    size = len(content)
    return random.randrange(max(1, min(size, random.choice((16, 200, size, size)))))


BYTE_CHANGES = (_flip, _flip, _cut, _gap, _repeat, _noise, _lie)


def mutated_value(value, random: Random):
    """Return a JSON or YAML value with one entry at any depth replaced, removed, renamed, repeated or nested."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        key = random.choice(list(value))
        return _mutated_entry(value, key, random)
    if isinstance(value, list) and value and random.random() < 0.8:
        place = random.randrange(len(value))
        changed = list(value)
        changed[place] = mutated_value(value[place], random)
        return random.choice((changed, changed, changed[:place], changed * 100))
    return random.choice((*WRONG, nested(value), [value] * 3, {"key": value}, str(value), str(value)[:1000] * 100))


def _mutated_entry(value: dict, key, random: Random) -> dict:
    changed = dict(value)
    choice = random.random()
    if choice < 0.1:
        del changed[key]
    elif choice < 0.2:
        changed[random.choice((f"{key}x", str(key).upper(), "", "..", "seal", "é\n"))] = changed.pop(key)
    elif choice < 0.3:
        changed[key] = changed[random.choice(list(changed))]
    else:
        changed[key] = mutated_value(changed[key], random)
    return changed


def nested(value, depth: int = 150):
    """Return ``value`` wrapped in ``depth`` lists."""
    for _ in range(depth):
        value = [value]
    return value
