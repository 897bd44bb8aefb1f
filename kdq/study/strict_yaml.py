"""A strict reading of YAML: a text with two meanings is refused, so that a config means the same to every program.

PyYAML, and with it Snakemake, reads YAML 1.1, editors and newer programs read 1.2: ``010`` is 8 or 10, ``1:30`` is 90
or a text, ``no`` is false or a text. Only what both read alike is accepted. Of a key that is given twice PyYAML
silently takes the last; here it is refused, as are tags, anchors that contain themselves or multiply, and texts that
are not UTF-8. Anchors, aliases and merge keys (``<<``) work.
"""

import re

import yaml

from kdq.errors import UserError, reason, shown
from kdq.provenance.regular_file import NOTHING, kind, require

MOST_BYTES = 2**20  # of a file: PyYAML reads some 100 kB a second
MOST_VALUES = 100_000  # with every alias counted as what it stands for
MOST_DIGITS = 300  # of a number; Python refuses integers of more than 4300
NULL, BOOL, INT, FLOAT, STR, MERGE, TIMESTAMP = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "merge", "timestamp")
)
DATE = "a date"
CORE_SCHEMA = {  # YAML 1.2.2, section 10.3.2
    NULL: re.compile(r"null|Null|NULL|~|"),
    BOOL: re.compile(r"true|True|TRUE|false|False|FALSE"),
    INT: re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    FLOAT: re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
}


def read_file(path) -> dict:
    """Return the content of a YAML file, keys with values; raise UserError with the file and line of what is wrong."""
    if kind(path) == NOTHING:
        raise UserError(f"{path}: no such file, expected a config")
    require(path, "a config")  # a pipe that Snakemake has read is empty now
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: not readable as YAML ({reason(error)})") from None
    if len(content) > MOST_BYTES:
        raise UserError(f"{path}: larger than {MOST_BYTES:,} bytes, expected a config; brace patterns are shorter")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line}: found bytes that are not UTF-8, expected that encoding") from None
    values = read_text(text, path)
    if not isinstance(values, dict):
        content = "nothing" if values is None else shown(values)
        raise UserError(f"{path}: found {content}, expected keys with values")
    return values


def read_text(text: str, source) -> object:
    """Return the value of a YAML text; raise UserError that begins with ``source`` and the line."""
    try:
        return _read(text)
    except _Refused as refusal:
        raise UserError(f"{source}: line {refusal.line}: {refusal}") from None
    except RecursionError:
        raise UserError(f"{source}: nested too deeply, expected keys with values") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise UserError(f"{source}: {line}not readable as YAML ({error.problem})") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{source}: not readable as YAML ({reason(error)})") from None


def read_word(word: str, source: str) -> object:
    """Return what a word of the command line stands for; what is no YAML is a text. Raise UserError as for a file."""
    try:
        return _read(word)
    except _Refused as refusal:
        raise UserError(f"{source}: {refusal}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        return word


def _read(text: str) -> object:
    loader = _Loader(text)
    root = loader.get_single_node()
    if root is None:
        return None
    _Check(loader).node(root, ())
    return loader.construct_document(root)


class _Refused(Exception):
    """What is wrong, and in which line."""

    def __init__(self, line: int, message: str):
        super().__init__(message)
        self.line = line


class _Loader(yaml.SafeLoader):
    """PyYAML's reading of YAML 1.1, without tags."""

    def compose_node(self, parent, index):
        event = self.peek_event()
        if tag := getattr(event, "tag", None):
            raise _Refused(_line(event), f"found the tag {tag}, expected a value without one")
        return super().compose_node(parent, index)


class _Check:
    """A walk over a document's nodes that refuses what has two meanings, before any value is made of them."""

    def __init__(self, loader: _Loader):
        self.loader = loader
        self.sizes: dict[yaml.Node, int] = {}  # values that a node stands for; 0 as long as it is walked

    def node(self, node: yaml.Node, path: tuple) -> int:
        """Return the number of values in ``node``, which lies at ``path``; raise _Refused for the first wrong one."""
        if node not in self.sizes:
            self.sizes[node] = 0
            if isinstance(node, yaml.MappingNode):
                self._keys(node, path)
                parts = [(value, (*path, str(key.value))) for key, value in node.value]
            else:
                parts = [(value, path) for value in node.value] if isinstance(node, yaml.SequenceNode) else []
                self._scalar(node)
            self.sizes[node] = 1 + sum(self.node(*part) for part in parts)
        elif not self.sizes[node]:
            raise _Refused(_line(node), f"{_name(path)} contains itself by an alias, expected values")
        if self.sizes[node] > MOST_VALUES:
            raise _Refused(_line(node), f"{_name(path)} has more than {MOST_VALUES:,} values, aliases counted in full")
        return self.sizes[node]

    def _keys(self, node: yaml.MappingNode, path: tuple) -> None:
        """Refuse a key that is given twice: of the two values one would silently be dropped."""
        lines = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused(_line(key), f"{_name(path)}: found a list or mapping as a key, expected a word")
            self._scalar(key)
            value = "<<" if key.tag == MERGE else self.loader.construct_object(key)
            if value in lines:
                name = _name((*path, str(value)))
                raise _Refused(_line(key), f"the key {name!r} is given twice, first in line {lines[value]}")
            lines[value] = _line(key)

    def _scalar(self, node: yaml.Node) -> None:
        """Refuse a plain value that YAML 1.1 and 1.2 read differently."""
        if not isinstance(node, yaml.ScalarNode) or node.style or node.tag == MERGE:
            return
        if len(node.value) > MOST_DIGITS and node.tag != STR:
            raise _Refused(_line(node), f"found a number of {len(node.value)} digits, expected at most {MOST_DIGITS}")
        older, newer = _older(node, self.loader), _newer(node.value)
        if older != newer:
            choices = " or ".join(dict.fromkeys(spelling for spelling in (older, newer) if spelling != DATE))
            read = f"which is {older} in YAML 1.1 and {newer} in YAML 1.2"
            raise _Refused(_line(node), f"found {shown(node.value)[1:-1]}, {read}; write {choices}")


def _older(node: yaml.ScalarNode, loader: _Loader) -> str:
    """Return what YAML 1.1 reads, in a spelling that has one meaning."""
    return DATE if node.tag == TIMESTAMP else _spelled(loader.construct_object(node))


def _newer(text: str) -> str:
    """Return what YAML 1.2 reads, likewise."""
    tag = next((tag for tag, pattern in CORE_SCHEMA.items() if pattern.fullmatch(text)), STR)
    read = {
        NULL: lambda text: None,
        BOOL: lambda text: text.lower() == "true",
        INT: lambda text: int(text, 0 if text[:2] in ("0o", "0x") else 10),
        FLOAT: lambda text: float(re.sub(r"\.(?=[in])", "", text.lower())),  # .inf, .nan
        STR: str,
    }
    return _spelled(read[tag](text))


def _spelled(value) -> str:
    return "null" if value is None else repr(value).lower() if isinstance(value, bool) else shown(value)


def _line(node) -> int:
    return node.start_mark.line + 1


def _name(path: tuple) -> str:
    return ".".join(path) or "the file"
