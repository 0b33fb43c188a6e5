"""Which differences between two pieces of code count."""

import ast

import pytest

from cnn.support.essence import essence

#: Pairs of which only the first does something, or may do so, or does something else.
DIFFERENT = {
    "list called log": ("log = []; log.append(x)", "log = []"),
    "printing to a file": ("print(x, file=x.out)", "pass"),
    "value of a call": ("y = x.pop()", "pass"),
    "value that is awaited": ("async def g(): y = await x", "async def g(): pass"),
    "value that binds a name": ("y = [z := 1]; return z", "return z"),
    "deleted variable": ("y = 1; del y", "del y"),
    "list that is extended": ("y = x; y += [1]; return x", "return x"),
    "attribute of a local class": ("class C: a = 1", "class C: pass"),
    "global variable": ("global n; n = 1", "global n"),
    "variable of a function around": (
        "n = 0\n def g():\n  nonlocal n; n = 1\n return g(), n",
        "n = 0\n def g():\n  nonlocal n\n return g(), n",
    ),
    "condition that acts": ("if x.pop(): logger.info(x)", "pass"),
    "other branch": ("if x: logger.info(x)\n else: y()", "pass"),
    "text that is returned": ("return 'a'", "return 'b'"),
    "text passed to others": ("loud('a')", "loud('b')"),
    "value passed beside text": ("quiet('a', x)", "quiet('a', y)"),
    "what is raised": ("raise A('a')", "raise B('a')"),
    "what is asserted": ("assert x, 'a'", "assert y, 'a'"),
    "annotation in a class": ("class C: a: int", "class C: a: str"),
}
#: Pairs that do the same and differ in words.
EQUAL = {
    "docstring": ('"""Doc."""', "pass"),
    "log": ("logger.info(x)", "logging.getLogger('a').warning('b', exc_info=True)"),
    "branch that logs": ("if x: y()\n else: log.error(x)", "if x: y()"),
    "text joined": ("y = ', '.join(x); raise A(y)", "raise A"),
    "text in steps": ("a = 'a'; b = a + 'b'; b += f'{a}'; raise A(b)", "raise A()"),
    "text under a condition": ("y = ''\n if x: y = f' ({x})'\n raise A(y)", "raise A"),
    "texts passed on": ("quiet('a' 'b', x, t=f'{y}')", "quiet(x, 'a' + 'c')"),
    "text of a format": ("quiet('%d a' % x)", "quiet('%d b' % x)"),
    "help": ("loud(x, help='a', description='b')", "loud(x)"),
    "annotation of an argument": ("def g(a: int, *b: str, c: C = 1): return c", "def g(a, *b, c=1): return c"),
    "annotation of a result": ("def g() -> int: return 1", "def g(): return 1"),
    "annotation of a variable": ("a: int = x; b: int; return a", "a = x; return a"),
    "quotes in a class": ("class C: a: 'A'", "class C: a: A"),
}


def dumped(body: str) -> str:
    tree = essence(ast.parse(f"def f(x):\n {body}"), {"quiet"})
    compile(ast.fix_missing_locations(tree), "essence", "exec")
    return ast.dump(tree)


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT)
def test_what_acts_counts(pair: tuple[str, str]) -> None:
    assert dumped(pair[0]) != dumped(pair[1])


@pytest.mark.parametrize("pair", EQUAL.values(), ids=EQUAL)
def test_words_do_not_count(pair: tuple[str, str]) -> None:
    assert dumped(pair[0]) == dumped(pair[1])


def test_essence_can_be_compiled() -> None:
    assert dumped("n = 0\n def g():\n  nonlocal n; n = 1\n return g")


def test_signatures_can_be_kept() -> None:
    tree = essence(ast.parse("def f(x: int) -> int: return x"), keep_signatures=True)
    assert ast.unparse(tree) == "def f(x: int):\n    return x"
