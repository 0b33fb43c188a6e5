"""What of a definition's code can change a result; `cnn.support.fingerprint` hashes nothing else.

The essence of code is its syntax tree without

- comments, docstrings, formatting, and annotations outside of class bodies (pydantic and dataclasses read those);
- statements that only log, warn or print, and an ``if`` of which nothing else is left;
- the messages of ``assert`` and ``raise``, text given to callables that only report it, ``description=`` and ``help=``;
- local variables that only these used, unless their value is computed by a call: that may do something else as well.
"""

import ast
from collections.abc import Collection, Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

_LOGGERS = {"logger", "log", "logging"}
_LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
_LABELS = ("description", "help")


def essence(tree: ast.Module, silent: Collection[str] = (), *, keep_signatures: bool = False) -> ast.Module:
    """The tree, changed in place, without what cannot change a result.

    Args:
        silent: names, as imported, of callables and modules that only report the text that is passed to them.
        keep_signatures: keep the annotations of arguments, which say what classes a function's inputs have.

    >>> ast.unparse(essence(ast.parse("def half(x: int) -> float:\\n    'Half of it.'\\n    return x / 2  # float")))
    'def half(x):\\n    return x / 2'
    """
    _Essence(silent, keep_signatures).visit(tree)
    return tree


def children(node: ast.AST) -> list[ast.AST]:
    """What is directly below a node, in half the time that `ast.iter_child_nodes` takes.

    >>> [type(child).__name__ for child in children(ast.parse("f(x, 1)").body[0].value)]
    ['Name', 'Name', 'Constant']
    """
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, ast.AST):
            found.append(value)
        elif isinstance(value, list):
            found += [each for each in value if isinstance(each, ast.AST)]
    return found


def walk(tree: ast.AST) -> Iterator[ast.AST]:
    """A node and all nodes below it, each before what is below it."""
    waiting = [tree]
    while waiting:
        yield (node := waiting.pop())
        waiting += children(node)


def written_name(node: ast.AST) -> str:
    """A name with its attributes as written, ``a.b.c``; empty for anything else."""
    if isinstance(node, ast.Attribute):
        inner = written_name(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return node.id if isinstance(node, ast.Name) else ""


def _only_reports(call: ast.expr) -> bool:
    if not isinstance(call, ast.Call):
        return False
    if written_name(call.func) in ("print", "warnings.warn"):
        return all(keyword.arg != "file" for keyword in call.keywords)
    names = {node.id for node in walk(call.func) if isinstance(node, ast.Name)}
    return isinstance(call.func, ast.Attribute) and call.func.attr in _LOG_METHODS and bool(names & _LOGGERS)


def _may_act(value: ast.expr) -> bool:
    """Whether to evaluate an expression may do more than give a value; methods of a string literal do not."""
    return any(
        isinstance(node, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr)
        or (isinstance(node, ast.Call) and not isinstance(getattr(node.func, "value", None), ast.Constant))
        for node in walk(value)
    )


def _is_text(value: ast.expr) -> bool:
    """Whether an expression is a string literal, or some that are added or filled in."""
    if isinstance(value, ast.BinOp):
        return _is_text(value.left) and (isinstance(value.op, ast.Mod) or _is_text(value.right))
    return isinstance(value, ast.JoinedStr) or (isinstance(value, ast.Constant) and isinstance(value.value, str))


def _is_only_text(value: ast.expr) -> bool:
    return _is_text(value) and not _may_act(value)


class _Transformer(ast.NodeTransformer):
    """Keeps the tree valid where a body is emptied, and removes an ``if`` that has nothing left to decide."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        super().generic_visit(node)
        if not node.body and not node.orelse and not _may_act(node.test):
            return None
        node.body = node.body or [ast.Pass()]
        return node


class _Essence(_Transformer):
    def __init__(self, silent: Collection[str], keep_signatures: bool) -> None:
        self._silent, self._keep_signatures = silent, keep_signatures
        self._around: list[ast.AST] = []  # functions and classes

    def visit_ClassDef(self, node: ast.ClassDef | Function) -> ast.AST:
        self._around.append(node)
        self.generic_visit(node)
        self._around.pop()
        return node

    def visit_FunctionDef(self, node: Function) -> ast.AST:
        node.returns = None
        self.visit_ClassDef(node)
        if not any(isinstance(each, Function) for each in self._around):
            _remove_unused_variables(node)
        return node

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_arg(self, node: ast.arg) -> ast.AST:
        if not self._keep_signatures:
            node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if self._around and isinstance(self._around[-1], ast.ClassDef):
            if isinstance(node.annotation, ast.Constant) and isinstance(node.annotation.value, str):
                node.annotation = ast.parse(node.annotation.value, mode="eval").body
            return self.generic_visit(node)
        return self.generic_visit(ast.Assign([node.target], node.value)) if node.value else None

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        dropped = isinstance(node.value, ast.Constant) or _only_reports(node.value)
        return None if dropped else self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        node.cause = None
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [each for each in node.keywords if each.arg not in _LABELS]
        if written_name(node.func).partition(".")[0] in self._silent:
            node.args = [each for each in node.args if not _is_text(each)]
            node.keywords = [each for each in node.keywords if not _is_text(each.value)]
        return self.generic_visit(node)


class _UnusedVariables(_Transformer):
    """Removes assignments to names that are not among ``used``."""

    def __init__(self, used: set[str]) -> None:
        self._used, self.removed = used, False

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node  # what is assigned in a class is an attribute

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return self._unless_unused(node, node.targets, _may_act(node.value))

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST | None:
        return self._unless_unused(node, [node.target], not _is_only_text(node.value))

    def _unless_unused(self, node: ast.AST, targets: list[ast.expr], needed: bool) -> ast.AST | None:
        if needed or not all(isinstance(each, ast.Name) and each.id not in self._used for each in targets):
            return node
        self.removed = True
        return None


def _remove_unused_variables(function: Function) -> None:
    removed = True
    while removed:
        used, assigned = set[str](), set[str]()
        for node in walk(function):
            match node:
                case ast.Name(name, ast.Store()):
                    assigned.add(name)
                case ast.Name(name):
                    used.add(name)
                case ast.AugAssign(ast.Name(name), _, value) if not _is_only_text(value):
                    used.add(name)  # a list is extended in place
                case ast.Global(names) | ast.Nonlocal(names):
                    used.update(names)
        visitor = _UnusedVariables(used)
        if assigned - used:
            visitor.visit(function)
        removed = visitor.removed
