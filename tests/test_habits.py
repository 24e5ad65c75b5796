"""Habits of the code that no linter checks: where things are called, and how errors are raised."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "csc_xr"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [
    path
    for folder in ("csc_xr", "tests", "benchmarks", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=name_of(path))


def called_name(node: ast.AST | None) -> str:
    """Last part of the name a call calls: ``map_blocks`` of ``xr.map_blocks(...)``."""
    function = node.func if isinstance(node, ast.Call) else node
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))


def raises(path: Path) -> Iterator[ast.Raise]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Raise))


def error_classes() -> dict[str, set[str]]:
    """Names of the classes in errors.py, each with the names of its bases."""
    body = tree_of(PACKAGE / "errors.py").body
    return {
        node.name: {called_name(base) for base in node.bases}
        for node in body
        if isinstance(node, ast.ClassDef)
    }


def test_the_package_is_found() -> None:
    assert PACKAGE / "legend.py" in MODULES
    assert Path(__file__) in SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree_of(path)), f"{name_of(path)} has no docstring"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_module_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_blockwise_maps_over_chunks(path: Path) -> None:
    """Halos, thin chunks and dtypes are got right in one place."""
    mapping = {"map_blocks", "map_overlap"}
    found = {
        node.lineno
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Attribute) and node.attr in mapping)
        or (isinstance(node, ast.alias) and node.name in mapping)
    }
    assert not found or path == PACKAGE / "blockwise.py", f"{name_of(path)}: lines {found}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_unpickled(path: Path) -> None:
    """Reading a network or a store must not run code it carries."""
    unsafe = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            modules = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules = {(node.module or "").split(".")[0]}
        else:
            modules = set()
        assert not modules & unsafe, f"{name_of(path)} imports {modules & unsafe}"
    for call in calls(path):
        allowed = {
            keyword.arg: getattr(keyword.value, "value", None)
            for keyword in call.keywords
            if keyword.arg in {"allow_pickle", "safe_mode"}
        }
        assert allowed.get("allow_pickle", False) is False, f"{name_of(path)}:{call.lineno}"
        assert allowed.get("safe_mode", True) is True, f"{name_of(path)}:{call.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_settings_are_named(path: Path) -> None:
    """A function that takes ``**kwargs`` accepts misspelt settings in silence."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.args.kwarg is None, f"{name_of(path)}:{node.lineno} {node.name}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_error_has_a_message(path: Path) -> None:
    classes = error_classes()
    for node in raises(path):
        if called_name(node.exc) not in classes:
            continue
        message = node.exc.args[0] if isinstance(node.exc, ast.Call) and node.exc.args else None
        assert message is not None, f"{name_of(path)}:{node.lineno} raises without a message"
        blank = isinstance(message, ast.Constant) and not str(message.value).strip()
        assert not blank, f"{name_of(path)}:{node.lineno} raises with a blank message"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_errors_are_those_of_csc_xr(path: Path) -> None:
    """``except CscError`` catches whatever csc_xr raises on purpose."""
    protocol = {"AttributeError", "IndexError", "KeyError", "NotImplementedError", "StopIteration"}
    foreign = {
        name
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, Exception)
    } - protocol
    found = [
        f"line {node.lineno}: {called_name(node.exc)}"
        for node in raises(path)
        if called_name(node.exc) in foreign
    ]
    assert found == []


def test_every_error_class_is_used() -> None:
    """Raised, or warned with; a class that only others build on need not be."""
    classes = error_classes()
    bases = set().union(*classes.values())
    used: set[str] = set()
    for path in MODULES:
        for call in calls(path):
            used.add(called_name(call))
            if called_name(call) == "warn":
                used.update(called_name(argument) for argument in call.args)
                used.update(called_name(keyword.value) for keyword in call.keywords)
    assert sorted(set(classes) - bases - used) == []
