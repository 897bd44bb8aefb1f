"""Documentation in code: what a fingerprint leaves out, because no result depends on it.

That are docstrings and the ``description`` of a key, a text in a call of pydantic's ``Field``. Code that reads such
texts when it runs makes them part of what it computes.
"""

import ast

FIELD = {"pydantic.Field", "kdq.recipe.vocabulary.Field"}
READERS = frozenset({"__doc__", "getdoc", "model_json_schema"})


def documentation(tree: ast.Module) -> set[int]:
    """Return the ids of the nodes of a file's syntax tree that hold documentation."""
    nodes = list(ast.walk(tree))
    left_out = {id(node.body[0]) for node in nodes if _has_docstring(node)}
    if _describes_keys(nodes):
        left_out |= {id(word) for node in nodes if _is_field(node) for word in node.keywords if _is_description(word)}
    return left_out


def reads_documentation(tree: ast.Module) -> bool:
    """Return whether the code of a file may read docstrings or descriptions, of its own or of what it imports."""
    return any(_reads(node) for node in ast.walk(tree))


def _has_docstring(node: ast.AST) -> bool:
    documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    return documented and ast.get_docstring(node, clean=False) is not None


def _describes_keys(nodes: list[ast.AST]) -> bool:
    """Return whether the name ``Field`` can only be pydantic's function in a file."""
    origins = {origin for node in nodes for name, origin in _bound(node) if name == "Field"}
    return bool(origins) and origins <= FIELD


def _bound(node: ast.AST) -> list[tuple[str, str]]:
    """Return the names that a node binds, each with where it is imported from, as ``module.name``, else empty."""
    match node:
        case ast.ImportFrom(level=0):
            return [(alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names]
        case ast.ImportFrom() | ast.Import():
            return [(alias.asname or alias.name, "") for alias in node.names]
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return [(name, "")]
        case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
            return [(name, "")]
    return []


def _is_field(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Field"


def _is_description(word: ast.keyword) -> bool:
    return word.arg == "description" and isinstance(word.value, ast.Constant)


def _reads(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name) | ast.alias(name=name):
            return name in READERS
        case ast.Call(args=values):
            return any(isinstance(value, ast.Constant) and value.value == "__doc__" for value in values)
        case ast.Subscript(slice=ast.Constant(value=value)):
            return value == "__doc__"
    return False
