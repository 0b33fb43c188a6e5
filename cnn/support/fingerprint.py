"""What decides whether a run is cached: here the code and the libraries, in ``tasks/caching`` the inputs.

A cache key is made of a step's inputs and of a `CodeBase.fingerprint`: the digest of every function, class and constant
of ``cnn`` that the step reaches, directly or through others, and of the versions of the libraries that these use.
``cnn/support``, ``tasks`` and what `cnn.support.essence` strips (comments, messages, logs) are no part of it.

The source is read and never imported. Only what is written as a name is found: a method is reached with its class, and
nothing through ``globals()`` or the annotation of an argument.
"""

import ast
import functools
import importlib.metadata
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnn.support.essence import DEFINITIONS, children, essence, walk, written_name
from cnn.support.files import text_digest

#: They check, transfer, display or schedule; no result depends on their version.
_COMPUTE_NOTHING = {"pydantic", "requests", "tqdm", "prefect", "typing_extensions"}
#: Import name → distributions that may provide it, where they are called otherwise.
_DISTRIBUTIONS = {
    "PIL": ("pillow",),
    "mxnet": ("mxnet", "mxnet-cu112"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "skimage": ("scikit-image",),
    "sklearn": ("scikit-learn",),
    "yaml": ("pyyaml",),
}


@dataclass(frozen=True, eq=False)
class CodeBase:
    """Source files below ``root``. They are read once: a fingerprint is that of the code as first seen.

    Args:
        packages: top-level packages that are followed.
        not_hashed: dotted prefixes of definitions that are followed, but for their decorators, and not hashed.
        ignored: dotted prefixes of packages, modules or definitions that are neither followed nor hashed.
        silent: modules whose callables only report what they are given, so that text passed to them does not count.
        stand_ins: dotted name in an ignored module → the library that it stands for.
    """

    root: Path
    packages: tuple[str, ...]
    not_hashed: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    stand_ins: Mapping[str, str] = field(default_factory=dict)

    def entries(self, name: str) -> tuple[str, ...]:
        """The hashed definitions that a definition which is not hashed leads to first; of a hashed one itself."""
        reached = _reach(self, (name,), through_hashed=False)
        return tuple(sorted(symbol.replace(":", ".") for symbol in reached if _is_hashed(self, symbol)))

    def fingerprint(self, *names: str) -> str:
        """SHA-256, in hex, of what the definitions (``package.module.name``) reach, and of its libraries' versions.

        Raises:
            LookupError: one of them, or something that the code imports from the packages, does not exist.
        """
        return _fingerprint(self, frozenset(names))

    def libraries(self, *names: str) -> dict[str, str]:
        """Distribution → version, or "none" if it is not installed, of the libraries that the hashed code uses."""
        hashed = (symbol for symbol in _reach(self, names) if _is_hashed(self, symbol))
        used = {name.partition(".")[0] for symbol in hashed for name in _read(self, symbol).libraries}
        third_party = sorted(used - sys.stdlib_module_names - _COMPUTE_NOTHING)
        distributions = [_DISTRIBUTIONS.get(name, (name,)) for name in third_party]
        return {candidates[0]: _version(candidates) for candidates in distributions}


def fingerprint_function(function: Callable[..., Any]) -> str:
    """`PROJECT`'s fingerprint of a top-level function; of any other function a digest of its own code.

    Raises:
        OSError: its source cannot be read, as it is not in a file.
    """
    if _covers(PROJECT.packages, function.__module__) and "<" not in function.__qualname__:
        return PROJECT.fingerprint(f"{function.__module__}.{function.__qualname__}")
    return text_digest(ast.dump(essence(ast.parse(textwrap.dedent(inspect.getsource(function))))))


def _version(distributions: Iterable[str]) -> str:
    for name in distributions:
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "none"


def _covers(prefixes: Iterable[str], dotted: str) -> bool:
    return any(f"{dotted}.".startswith(f"{prefix}.") for prefix in prefixes)


# A symbol is "module:name"; "module:" stands for what the module does when it is imported.


def _is_hashed(base: CodeBase, symbol: str) -> bool:
    return not _covers(base.not_hashed, symbol.replace(":", "."))


@functools.cache
def _fingerprint(base: CodeBase, names: frozenset[str]) -> str:
    hashed = sorted(symbol for symbol in _reach(base, names) if _is_hashed(base, symbol))
    code = (part for symbol in hashed for part in (symbol, _read(base, symbol).text))
    return text_digest(*code, *base.libraries(*names).items())


def _reach(base: CodeBase, names: Iterable[str], through_hashed: bool = True) -> set[str]:
    """All symbols that the names lead to, or only those up to the first hashed ones."""
    waiting, found = [symbol for name in names for symbol in _locate(base, name)], set[str]()
    if strays := [name for name in waiting if ":" not in name]:
        raise LookupError(f"{strays[0]}: expected a definition in {' or '.join(base.packages)}.")
    while waiting:
        symbol = waiting.pop()
        if symbol not in found:
            found.add(symbol)
            if through_hashed or not _is_hashed(base, symbol):
                waiting += _read(base, symbol).symbols
    return found


@dataclass(frozen=True)
class _Definition:
    """What counts of a symbol, as a digest; the symbols that it leads to; the names that it uses of libraries."""

    text: str
    symbols: frozenset[str]
    libraries: frozenset[str]


@functools.cache
def _read(base: CodeBase, symbol: str) -> _Definition:
    module_name, _, name = symbol.partition(":")
    module = _module(base, module_name)
    statements = module.definitions[name]
    own_imports, ends = _imports(ast.Module(statements, []), module.package), set()
    for written in {name for statement in statements for name in _loaded_names(statement)}:
        first, _, rest = written.partition(".")
        is_global = first in module.definitions or first in module.imports
        for target in [*own_imports.get(first, ()), *([f"{module_name}.{first}"] if is_global else [])]:
            ends |= {(first, end) for end in _locate(base, f"{target}.{rest}".rstrip("."))}
    symbols = frozenset(end for _, end in ends if ":" in end)
    text = text_digest(*map(ast.dump, statements), *sorted(ends))
    return _Definition(text, symbols | {f"{module_name}:"}, frozenset(end for _, end in ends) - symbols)


def _locate(base: CodeBase, dotted: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """The symbols that a dotted name leads to, or its name in a library."""
    if stand_in := next((each for each in base.stand_ins if _covers([each], dotted)), None):
        yield base.stand_ins[stand_in] + dotted.removeprefix(stand_in)
    elif not _covers(base.packages, dotted):
        yield dotted
    elif dotted not in seen and not _covers(base.ignored, dotted):
        parts = dotted.split(".")
        depth = max(depth for depth in range(1, len(parts) + 1) if _file(base, ".".join(parts[:depth])))
        name, attributes = ".".join(parts[:depth]), parts[depth:]
        module = _module(base, name)
        wanted = attributes[0] if attributes else ""
        if wanted and (wanted in module.definitions or wanted in module.imports):
            if wanted in module.definitions:
                yield f"{name}:{wanted}"
            for target in module.imports.get(wanted, ()):
                yield from _locate(base, ".".join([target, *attributes[1:]]), seen | {dotted})
        elif not wanted or wanted.startswith("__"):  # the module itself is used
            yield from (f"{name}:{each}" for each in module.definitions)
        else:
            raise LookupError(f"{dotted}: {name} neither defines nor imports it; import it where it is defined.")


@dataclass(frozen=True)
class _Module:
    """A module's statements, without what does not count, by the names that they bind; what imported names stand for.

    The definition of "" is what the module does when it is imported.
    """

    package: str
    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, set[str]]


@functools.cache
def _file(base: CodeBase, name: str) -> Path | None:
    """The file of a module or package, or its folder if it has no file."""
    place = base.root.joinpath(*name.split("."))
    candidates = (place / "__init__.py", place.with_suffix(".py"), place)
    return next((each for each in candidates if each.exists()), None)


@functools.cache
def _module(base: CodeBase, name: str) -> _Module:
    file = _file(base, name)
    if file is None:
        raise LookupError(f"{name}: expected a module below {base.root}, found none.")
    is_package = file.is_dir() or file.name == "__init__.py"
    package = name if is_package else name.rpartition(".")[0]
    tree = ast.parse(b"" if file.is_dir() else file.read_bytes())
    imports = _imports(ast.Module([each for each in tree.body if not isinstance(each, DEFINITIONS)], []), package)
    silent = {bound for bound, targets in imports.items() if any(_covers(base.silent, each) for each in targets)}
    definitions: dict[str, list[ast.stmt]] = {"": []}
    for statement in essence(tree, silent, keep_signatures=not _is_hashed(base, name)).body:
        if isinstance(statement, ast.FunctionDef) and not _is_hashed(base, name):
            statement.decorator_list = []
        for bound in _bound_names(statement):
            definitions.setdefault(bound, []).append(statement)
    for source in {target.removesuffix(".*") for target in imports.pop("*", ())}:
        for each in {*_module(base, source).definitions, *_module(base, source).imports} - {""}:
            imports.setdefault(each, set()).add(f"{source}.{each}")
    return _Module(package, definitions, imports)


def _imports(tree: ast.AST, package: str) -> dict[str, set[str]]:
    """What each name that is imported anywhere in a tree stands for, as a dotted name.

    >>> sorted(_imports(ast.parse("import a.b; import a.c as d; from ..e import f as g"), "x.y").items())
    [('a', {'a'}), ('d', {'a.c'}), ('g', {'x.e.f'})]
    """
    found: dict[str, set[str]] = {}
    for node in walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                found.setdefault(alias.asname or first, set()).add(alias.name if alias.asname else first)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            above = parents[: len(parents) + 1 - node.level] if node.level else []
            for alias in node.names:
                target = ".".join([*above, *filter(None, [node.module]), alias.name])
                found.setdefault(alias.asname or alias.name, set()).add(target)
    return found


def _loaded_names(node: ast.AST) -> Iterator[str]:
    """The names that are loaded anywhere in a tree, each with the attributes behind it.

    >>> sorted(_loaded_names(ast.parse("y = a.b(x).c")))
    ['a.b', 'x']
    """
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if name := written_name(node):
            if not isinstance(getattr(node, "ctx", None), ast.Store) or "." in name:
                yield name
        else:
            waiting += children(node)


def _bound_names(statement: ast.stmt) -> set[str]:
    """The names that a statement of a module binds there; "" if it does something else as well.

    >>> _bound_names(ast.parse("a = b = 1").body[0]) == {"a", "b"}, _bound_names(ast.parse("a[0] = 1").body[0])
    (True, {''})
    """
    if isinstance(statement, DEFINITIONS):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return set()
    nodes = list(walk(statement))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.name for node in nodes if isinstance(node, DEFINITIONS)}
    names |= {(node.asname or node.name).partition(".")[0] for node in nodes if isinstance(node, ast.alias)}
    targets = [target for node in nodes if isinstance(node, ast.Assign) for target in node.targets]
    acts = any(isinstance(node, ast.Expr | ast.AugAssign | ast.Delete) for node in nodes)
    return names | ({""} if acts or any(isinstance(each, ast.Attribute | ast.Subscript) for each in targets) else set())


#: This project. A network's architecture is in the key of the steps that train it, so another one changes no key.
PROJECT = CodeBase(
    root=Path(__file__).resolve().parents[2],
    packages=("cnn", "tasks"),
    not_hashed=("tasks",),
    ignored=(
        "cnn.support",
        "cnn.networks.architectures.ARCHITECTURES",
        "cnn.networks.architectures.BACKBONES",
        "tasks.caching",
    ),
    silent=("cnn.support.errors", "cnn.support.progress"),
    stand_ins={"cnn.support.backend.mx": "mxnet"},
)
