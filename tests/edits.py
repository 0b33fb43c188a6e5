"""Edits of source code by which tests ask what is computed again: other words, or other work in every function."""

import ast
import shutil
from pathlib import Path

#: The rooms whose code runs in a flow.
ROOMS = ("cnn", "tasks", "flows")


def copy_code(root: Path, target: Path) -> Path:
    """Copy the rooms of the project at ``root``."""
    for room in ROOMS:
        shutil.copytree(root / room, target / room, ignore=shutil.ignore_patterns("__pycache__"))
    return target


class _Longer(ast.NodeTransformer):
    """Lengthens every text, but not the formats in it."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant(f"{node.value} indeed") if isinstance(node.value, str) else node

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.FormattedValue:
        return node


class _Reword(ast.NodeTransformer):
    """Changes what people read: errors, logs, docstrings and descriptions."""

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return _Longer().visit(node) if isinstance(node.exc, ast.Call) else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if ast.unparse(node.func).startswith("logger.") or ast.unparse(node.func).endswith("UserError"):
            node.args = [_Longer().visit(argument) for argument in node.args]
        for keyword in node.keywords:
            if keyword.arg == "description":
                keyword.value = _Longer().visit(keyword.value)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return _Longer().visit(node) if isinstance(node.value, ast.Constant) else self.generic_visit(node)


class _Act(ast.NodeTransformer):
    """Has each function do something more."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        has_docstring = ast.get_docstring(node) is not None
        node.body.insert(int(has_docstring), ast.parse("len(str(1))").body[0])
        return node


def reword(path: Path) -> None:
    """Change every error, log line, docstring, description, comment and line break of a module."""
    _transform(path, _Reword())


def act(path: Path) -> None:
    """Change what every function of a module does."""
    _transform(path, _Act())


def _transform(path: Path, transformer: ast.NodeTransformer) -> None:
    before = ast.parse(path.read_text(encoding="utf-8"))
    after = ast.unparse(transformer.visit(before))
    path.write_text(f"# edited\n{after}\n", encoding="utf-8")


def replace(path: Path, old: str, new: str) -> None:
    """Change one place of a module, which must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path}: {old} is not there"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
