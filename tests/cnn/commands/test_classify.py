"""``python -m cnn classify``: arguments are taken as they are, and nothing that is read can hang or end it."""

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from candidates import explained, flip_bit, make_candidate  # noqa: F401  (a fixture)
from PIL import Image

import cnn
from cnn.__main__ import main
from cnn.commands import classify
from cnn.data.datasets import Dataset
from cnn.data.sample import draw
from cnn.support.errors import UserError

NAMES = (
    "Screenshot 2024-05-01, 10.00.png", '12" hotdog.png', "[a].png", "{b}.png", "null", "a,b", "--", "-x.png", "--json",
    "true", "1", '["a", "b"]', "{}", "=", "@a", "'", "\\", "%s {place}", "*", "$HOME", "~", "#", " ", "http:",
    "名前.png", "e\u0301.png", "a\nb.png", "\x1b[31mred.png", "caf\udce9.png", "-", "x" * 250,
)  # fmt: skip


@pytest.fixture(scope="module")
def models(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models in which one is published."""
    folder = tmp_path_factory.mktemp("published")
    make_candidate(folder, drawn_dataset, 0).publish(folder / "models")
    return folder / "models"


@pytest.fixture
def png(tmp_path: Path) -> bytes:
    Image.fromarray(draw("hotdog", 0, 0)).save(tmp_path / "drawn.png")
    return (tmp_path / "drawn.png").read_bytes()


def classified(models: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Names of the images that are classified."""
    capsys.readouterr()
    main(["classify", "--models", str(models), "--json", *arguments])
    return [json.loads(line)["image"] for line in capsys.readouterr().out.splitlines()]


# ---- arguments


@pytest.mark.parametrize("name", NAMES)
def test_names_are_taken_as_they_are(
    models: Path,
    png: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    (folder := tmp_path / "images").mkdir()
    (folder / name).write_bytes(png)
    monkeypatch.chdir(folder)
    assert classified(models, capsys, "--", name) == [name]
    assert classified(models, capsys, str(folder / name)) == [str(folder / name)]


def test_several_images_are_several_arguments(
    models: Path, png: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(tmp_path / name) for name in ("a,b.png", "[c].png", "null")]
    for name in names:
        Path(name).write_bytes(png)
    assert classified(models, capsys, *names, names[0]) == [*names, names[0]]


def test_control_characters_of_names_are_not_printed(
    models: Path, png: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder := tmp_path / "images").mkdir()
    (folder / "\x1b[31mred\n\u202egnp.png").write_bytes(png)
    (folder / "\x1b]0;title\x07.png").write_text("no image")
    with pytest.raises(UserError) as refused:
        main(["classify", "--models", str(models), str(folder)])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{folder}/?[31mred??gnp.png: hotdog (")
    assert str(refused.value) == f"{folder}/?]0;title?.png: not an image; expected an image."


@pytest.mark.parametrize(
    "arguments", [["classify"], ["classify", "--mod", "x", "y"], ["classify", "--unknown"], ["no"]]
)
def test_wrong_flags_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


# ---- files


@pytest.fixture
def odd(tmp_path: Path) -> dict[str, Path]:
    """What is no file, links to it, and what cannot be read, by what is said of it."""
    (tmp_path / "odd").mkdir()
    fifo, sock, huge, loop = (tmp_path / "odd" / name for name in ("fifo.png", "socket.png", "huge.png", "loop.png"))
    os.mkfifo(fifo)
    socket.socket(socket.AF_UNIX).bind(os.path.relpath(sock))
    with huge.open("wb") as file:
        file.truncate((1 << 27) + 1)
    loop.symlink_to(loop)
    for name, target in (
        ("to-fifo.png", fifo),
        ("to-zero.png", Path("/dev/zero")),
        ("to-nothing.png", tmp_path / "no"),
    ):
        (tmp_path / "odd" / name).symlink_to(target)
    return {path.name: path for path in sorted((tmp_path / "odd").iterdir())}


def test_what_is_no_file_is_never_opened(
    models: Path, png: bytes, odd: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [*map(str, odd.values()), "/dev/zero", "/dev/tty", "", "x" * 300, str(tmp_path / "drawn.png")]
    with pytest.raises(UserError) as refused:
        main(["classify", "--models", str(models), *places])
    said = str(refused.value)
    assert capsys.readouterr().out.startswith(f"{tmp_path}/drawn.png: hotdog (")  # it is the last
    for name, reason in {
        "/fifo.png": "it is a named pipe and not a file", "/to-fifo.png": "it is a named pipe and not a file",
        "/socket.png": "it is a socket and not a file", "/to-zero.png": "it is a device and not a file",
        "/dev/zero": "it is a device and not a file", "/huge.png": "it is larger than 128 MiB",
        "/loop.png": "Too many levels of symbolic links", "/to-nothing.png": "No such file or directory",
        "x" * 300: "File name too long",
    }.items():  # fmt: skip
        assert f"{name}: cannot be read: {reason}." in said
    assert "an empty name: expected a file, an address or a folder." in said


# ---- addresses


class Handler(BaseHTTPRequestHandler):
    """Gives a PNG to /image…, redirects /to/ADDRESS, drips at /drip and /head, and never ends at /endless."""

    image = b""
    seen: list[tuple[str, str]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["User-Agent"]))
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        for _ in range(100 if self.path == "/head" else 0):
            self.wfile.write(b"H")
            time.sleep(0.05)
        self.send_response(200)
        self.end_headers()
        if self.path.startswith("/image"):
            self.wfile.write(self.image)
        for byte in self.image * (self.path == "/drip"):
            self.wfile.write(bytes([byte]))
            time.sleep(0.05)
        while self.path == "/endless":
            self.wfile.write(bytes(1 << 16))

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def address(png: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """HOST:PORT of a server."""
    Handler.image, Handler.seen = png, []
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client may hang up
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    yield f"127.0.0.1:{http.server_port}"
    http.shutdown()


def test_addresses_are_taken_as_they_are(models: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    paths = ["/image/w_400,h_300/x.jpg", "/image?a=1,2&b=[3]", '/image/"quoted"', "/image/{x}"]
    urls = [f"http://{address}{path}" for path in paths] + [f"HTTP://{address}/image", f"hTTp://{address}/image/2"]
    assert classified(models, capsys, *urls) == urls
    asked, agents = zip(*Handler.seen, strict=True)
    assert {"/image/w_400,h_300/x.jpg", "/image", "/image/2"} <= set(asked) and len(asked) == len(urls)
    version = Path(cnn.__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8")
    for agent in agents:
        name, _, number = agent.split()[0].partition("/")
        assert name == "hotdog-pipeline" and f'version = "{number}"' in version


@pytest.mark.parametrize(
    "wrong",
    [
        "http://", "https://", "http:///x", "http://[", "http://[zz]/", "http://" + "a" * 70 + "/x.jpg", "http://a..b/",
        "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "http://127.0.0.1:-1/", "http://*/", "http://a b/", "http://\0/",
        "http://127.0.0.1:1/", "http://x\udce9/",
        "SERVER/to/http://[", "SERVER/to/http://" + "a" * 70, "SERVER/to/file:///etc/passwd", "SERVER/to/http://a..b",
        "SERVER/to/http://127.0.0.1:99999/", "SERVER/to/gopher://x", "SERVER/to/http://", "SERVER/missing",
    ],
)  # fmt: skip
def test_wrong_address_does_not_stop_the_others(
    models: Path, address: str, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    wrong, right = wrong.replace("SERVER", f"http://{address}"), f"http://{address}/image"
    with pytest.raises(UserError) as refused:
        main(["classify", "--models", str(models), wrong, right])
    assert capsys.readouterr().out.startswith(f"{right}: hotdog (")
    sentence = str(refused.value)
    assert sentence.startswith(wrong[:7]) and len(sentence) < 500 and "\n" not in sentence
    assert "cannot be read: " in sentence or "not an image; expected an image" in sentence


@pytest.mark.parametrize("path", ["/drip", "/head"])
def test_server_that_drips_is_given_up(
    models: Path, address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(classify, "_SECONDS_PER_ADDRESS", 0.5)
    with pytest.raises(UserError, match=f"{path}: cannot be read: no response in time"):
        main(["classify", "--models", str(models), f"http://{address}{path}", f"http://{address}/image"])
    assert "/image: hotdog (" in capsys.readouterr().out


def test_answer_without_an_end_is_refused(models: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "MAX_BYTES", 1 << 20)
    with pytest.raises(UserError, match=r"/endless: cannot be read: it is larger than 1 MiB\."):
        main(["classify", "--models", str(models), f"http://{address}/endless"])


# ---- models


def test_altered_version_does_not_answer(models: Path, png: bytes, tmp_path: Path) -> None:
    copy = shutil.copytree(models, tmp_path / "models")
    file = copy / "food" / "v0001" / "squeezenet-0000.params"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"v0001/squeezenet-0000\.params: it was altered since v0001 was published"):
        main(["classify", "--models", str(copy), str(tmp_path / "drawn.png")])


# ---- what is unlike the training images


def test_novel_images_are_said_to_be(
    explained: Path, drawn_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known, other, *_ = drawn_dataset.rows("train")
    paths = [tmp_path / "known.jpg", tmp_path / "other.jpg"]
    for path, row in zip(paths, (known, other), strict=True):
        path.write_bytes(row.data)
    arguments = ["classify", "--models", str(explained), *map(str, paths), "--plot", str(tmp_path / "plot.png")]
    main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("%); unlike anything it was trained on") for line in lines] == [False, True]
    main([*arguments, "--json"])
    assert [json.loads(line)["novel"] for line in capsys.readouterr().out.splitlines()] == [False, True]
    width, height = Image.open(tmp_path / "plot.png").size
    assert width == 3 * height  # the image, what the network sees, what speaks for the answer


def test_version_without_novelty_does_not_know(
    models: Path, png: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["classify", "--models", str(models), "--json", str(tmp_path / "drawn.png")])
    assert json.loads(capsys.readouterr().out)["novel"] is None


def test_altered_novelty_does_not_answer(explained: Path, png: bytes, tmp_path: Path) -> None:
    copy = shutil.copytree(explained, tmp_path / "models")
    flip_bit(copy / "food" / "v0001" / "novelty.npz")
    with pytest.raises(UserError, match=r"v0001/novelty\.npz: it was altered since v0001 was published"):
        main(["classify", "--models", str(copy), str(tmp_path / "drawn.png")])
