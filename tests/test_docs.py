"""What the README and the pages in ``docs/`` name is there: links, paths, Python names, flags of commands."""

import ast
import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from pydantic import BaseModel

import cnn
from cnn.__main__ import parser
from cnn.support.commandline import flag
from flows.settings import CifarSettings, HotdogSettings, ScoreSettings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ROOMS = ("cnn", "tasks", "flows", "benchmarks", "docs", "tests")
FORBIDDEN = ("picture", "aim:", "cannot be had")
COMMAND = re.compile(r"(flows/(?:hotdog|cifar|score)\.py|python -m cnn \w+|benchmarks/\w+\.py)([^`;&#]*)")
SETTINGS: dict[str, type[BaseModel]] = {
    "flows/hotdog.py": HotdogSettings,
    "flows/cifar.py": CifarSettings,
    "flows/score.py": ScoreSettings,
}
COMMANDS = tuple(f"python -m cnn {name}" for name in ("classify", "clean", "audit", "models", "serve"))
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def quoted(page: Path) -> list[str]:
    """What stands in backticks in a page's sentences and tables."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", read(page), flags=re.S))


def anchors(page: Path) -> set[str]:
    """The names by which links reach a page's headings."""
    headings = re.findall(r"^#+ (.+)$", read(page), re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def defined_names(statements: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """Name of each class, function, constant, field and import → the statements inside."""
    found: dict[str, list[ast.stmt]] = {}
    for node in statements:
        match node:
            case ast.ClassDef(name=name, body=body):
                found[name] = body
            case ast.FunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = []
            case ast.Assign(targets=targets):
                found |= {target.id: [] for target in targets if isinstance(target, ast.Name)}
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found |= {alias.asname or alias.name: [] for alias in names}
    return found


def exists(dotted: str) -> bool:
    """Whether ``package.module.name.attribute`` is there, as far as it is written; nothing is imported."""
    place, names = ROOT, dotted.split(".")
    while names and (place / names[0]).is_dir():
        place /= names.pop(0)
    if names and (place / f"{names[0]}.py").exists():
        place = place / f"{names.pop(0)}.py"
    elif names:
        place = place / "__init__.py"
    statements = ast.parse(read(place)).body if place.is_file() else []
    for name in names:
        inside = defined_names(statements)
        if name not in inside:
            return dotted.removeprefix("cnn.") in cnn.__all__
        statements = inside[name]
    return True


def help_of(*command: str) -> str:
    """What ``python -m cnn COMMAND --help`` prints."""
    printed = io.StringIO()
    with pytest.raises(SystemExit), redirect_stdout(printed):
        parser().parse_args([*command, "--help"])
    return printed.getvalue()


def flags_of(program: str) -> set[str]:
    """The flags that a program takes."""
    if program.startswith("benchmarks/"):
        files = [ROOT / program, ROOT / "benchmarks" / "harness.py"]
        nodes = [node for file in files for node in ast.walk(ast.parse(read(file)))]
        texts = {str(node.value) for node in nodes if isinstance(node, ast.Constant)}
        return {f"--{text.removeprefix('--')}" for text in texts}
    if program in COMMANDS:
        name = program.split()[-1]
        own = ["list", "prune"] if name == "models" else []  # all its commands take the flags of the first
        return set(FLAG.findall("".join([help_of(name), *(help_of(name, each) for each in own)])))
    settings = SETTINGS[program]
    return {flag(field.alias or name) for name, field in settings.model_fields.items()} | {"--help"}


def test_names_are_found_or_missed() -> None:
    assert exists("cnn.data.sources.source.Source.matches") and exists("cnn.prepare") and exists("tasks.steps")
    assert not exists("cnn.data.pictures") and not exists("cnn.data.images.decode_all") and not exists("tasks.run")


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", read(page))
    for target, _, anchor in (link.partition("#") for link in links if not link.startswith(("http://", "https://"))):
        there = page.parent / target if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@each_page
def test_paths_exist(page: Path) -> None:
    words = [word for span in quoted(page) for word in span.split()]
    words += [word for line in read(page).splitlines() if line.startswith("    ") for word in line.split()]
    for word in words:
        if re.fullmatch(rf"({'|'.join(ROOMS)})/[a-z0-9_./-]*", word):
            assert (ROOT / word).exists(), word


@each_page
def test_python_names_exist(page: Path) -> None:
    for span in quoted(page):
        if match := re.fullmatch(r"((?:cnn|tasks|flows|benchmarks)(?:\.\w+)+)(\(.*\))?", span):
            assert exists(match[1]), span


@each_page
def test_commands_take_their_flags(page: Path) -> None:
    for program, rest in COMMAND.findall(read(page).replace("\\\n", " ")):
        line = rest.partition("\n")[0]
        assert not set(FLAG.findall(line)) - flags_of(program), f"{program}{line}"


@each_page
def test_flags_alone_belong_to_a_program(page: Path) -> None:
    ours = {name for program in (*SETTINGS, *COMMANDS) for name in flags_of(program)}
    for file in (ROOT / "tests" / "conftest.py", *(ROOT / "benchmarks").glob("*.py")):
        ours |= set(re.findall(r'"(--[\w-]+)"', read(file)))
    shown = {name for line in read(page).splitlines() if line.startswith("    ") for name in FLAG.findall(line)}
    for span in quoted(page):
        assert not span.startswith("--") or set(FLAG.findall(span)) <= ours | shown, span


@each_page
def test_words_are_plain(page: Path) -> None:
    assert not [word for word in FORBIDDEN if word in read(page).lower()]


def test_readme_is_short_and_links_every_page() -> None:
    text = read(PAGES[0])
    assert len(text.splitlines()) <= 150
    assert all(f"(docs/{page.name})" in text for page in PAGES[1:])


def test_every_image_is_shown() -> None:
    shown = {Path(link).name for page in PAGES for link in re.findall(r"!\[[^]]*\]\(([^)]+)\)", read(page))}
    assert {image.name for image in (ROOT / "docs").glob("*.png")} == shown
