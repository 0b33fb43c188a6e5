"""The API: what it answers, and how it says why it does not."""

import io
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from stub_predictor import application, champion, client_of, encoded

from cnn.serving.web import addresses
from cnn.serving.web.app import create_app
from cnn.serving.web.messages import Predictions, Problem, Readiness, Version
from cnn.serving.web.uploads import Limits

LIMITS = Limits(size=1 << 16, images=3, seconds=5, waiting=4)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client_of(application(tmp_path_factory.mktemp("food"), LIMITS)) as found:
        yield found


def files(*images: bytes, name: str = "lunch.png") -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", (name, image)) for image in images]


def problem(response: httpx.Response, status: int) -> str:
    """The sentence of a problem, whose form is checked."""
    assert response.status_code == status and response.headers["content-type"] == "application/problem+json"
    found = Problem.model_validate(response.json())
    assert found.status == status and found.detail.endswith(".") and "\n" not in found.detail
    return found.detail


# ---- answers


def test_images_of_a_form_are_answered_in_order(client: TestClient) -> None:
    found = client.post("/predict", files=files(encoded("red"), encoded("blue"))).json()
    assert Predictions.model_validate(found)
    assert [each["class"] for each in found["results"]] == ["hot_dog", "not_hot_dog"]
    assert found["version"] == "v0001" and found["results"][0]["image"] == "lunch.png"
    assert found["results"][0]["probabilities"] == pytest.approx({"hot_dog": 2 / 3, "not_hot_dog": 1 / 3})


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/PNG; a=b", "application/octet-stream"])
def test_a_body_may_be_an_image(client: TestClient, kind: str) -> None:
    (found,) = client.post("/predict", content=encoded("gray"), headers={"content-type": kind}).json()["results"]
    assert found["novel"] is True and "image" not in found and "evidence" not in found


def test_evidence_is_given_when_asked_for(client: TestClient) -> None:
    (found,) = client.post("/predict?evidence=true", files=files(encoded())).json()["results"]
    assert found["evidence"] == {"side": 0.875, "values": [[1, 0], [0, -1]]}


def test_version_says_how_good_it_is(client: TestClient) -> None:
    found = client.get("/version").json()
    assert Version.model_validate(found)
    assert found["metrics"]["test"] == {
        "f1": {"value": 0.75, "interval": [0.5, 1.0]},
        "accuracy": {"value": 0.875, "interval": None},
    }
    assert found["threshold"] == {"class": "hot_dog", "probability": 0.25} and not found["collects"]


def test_health_and_readiness(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert Readiness.model_validate(client.get("/readyz").json()).problem == ""


def test_metrics_count_requests_and_images(client: TestClient) -> None:
    def samples() -> dict[tuple[str, ...], float]:
        families = text_string_to_metric_families(client.get("/metrics").text)
        return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}

    before = samples()
    client.post("/predict", files=files(encoded("gray"), encoded("blue")))
    client.get("/nothing/42")
    after = samples()
    grown = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    assert grown["cnn_images_total", "not_hot_dog"] == 2 and grown["cnn_novel_images_total",] == 1
    assert grown["cnn_requests_total", "/predict", "200"] == 1 and grown["cnn_requests_total", "other", "404"] == 1
    assert (
        after["cnn_waiting_images",] == 0
        and after["cnn_version_info", client.get("/version").json()["name"], "v0001"] == 1
    )


def test_report_is_that_which_was_published(tmp_path: Path) -> None:
    (tmp_path / "v0001").mkdir()
    report, html = tmp_path / "v0001" / "report.html", b"<style>p {}</style><script>1</script><p>\xc3\xa9"
    report.write_bytes(html)
    found = champion(tmp_path, files={"report.html": sha256(html).hexdigest()})
    with client_of(create_app(found, Limits())) as client:
        response = client.get("/report")
        assert response.content == html
        policy = response.headers["content-security-policy"]
        assert "script-src" not in policy and "default-src 'none'" in policy and "style-src 'sha256-" in policy
        report.write_bytes(html + b"<p>altered")
        assert "altered" in problem(client.get("/report"), 404)
        report.unlink()
        problem(client.get("/report"), 404)


# ---- problems


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "a")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that claims 2.5 gigapixels."""
    data, header = encoded(), b"IHDR" + struct.pack(">II", 50_000, 50_000) + b"\x08\x02\0\0\0"
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"no image",
        zipped(),
        encoded(kind="JPEG", size=(64, 64))[:-200],
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
        b"GIF89a" + bytes(30),
        bomb(),
    ],
    ids=["zero", "text", "zip", "truncated", "svg", "gif", "bomb"],
)
def test_what_is_no_image_is_named(client: TestClient, data: bytes) -> None:
    images = [("image", ("good.jpg", encoded())), ("image", ("bad.jpg", data))]
    assert problem(client.post("/predict", files=images), 422).startswith("bad.jpg cannot be decoded")
    alone = client.post("/predict", content=data, headers={"content-type": "image/jpeg"})
    assert problem(alone, 422).startswith("image 1 cannot be decoded")


def test_a_name_cannot_break_a_line(client: TestClient) -> None:
    name = b"a%0Ab\x1b[31m\xe2\x80\xae.png"
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="' + name + b'"\r\n\r\n!\r\n--x--\r\n'
    response = client.post("/predict", content=body, headers={"content-type": "multipart/form-data; boundary=x"})
    assert problem(response, 422).startswith("a%0Ab?[31m?.png cannot")


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (404, {"method": "GET", "url": "/nothing"}),
        (404, {"method": "POST", "url": "/corrections", "files": files(encoded())}),
        (405, {"method": "GET", "url": "/predict"}),
        (405, {"method": "DELETE", "url": "/version"}),
        (413, {"method": "POST", "url": "/predict", "files": files(bytes(1 << 17))}),
        (413, {"method": "POST", "url": "/predict", "files": files(*4 * [encoded()])}),
        (415, {"method": "POST", "url": "/predict"}),
        (415, {"method": "POST", "url": "/predict", "json": {"url": "http://127.0.0.1"}}),
        (415, {"method": "POST", "url": "/predict", "data": {"image": "a"}}),
        (400, {"method": "POST", "url": "/predict", "headers": {"content-type": "multipart/form-data"}}),
        (422, {"method": "POST", "url": "/predict", "content": b"", "headers": {"content-type": "image/png"}}),
        (422, {"method": "POST", "url": "/predict", "files": [("photo", ("a.png", encoded()))]}),
        (422, {"method": "POST", "url": "/predict", "files": [*files(encoded()), ("other", ("a.png", encoded()))]}),
        (422, {"method": "POST", "url": "/predict?evidence=perhaps", "files": files(encoded())}),
    ],
)
def test_problems_are_told_in_a_sentence(client: TestClient, status: int, request_: dict[str, Any]) -> None:
    problem(client.request(**request_), status)


def test_a_failure_of_the_server_is_a_problem(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("out of order")

    app = create_app(champion(tmp_path, before=fail), Limits())
    with client_of(app) as client:
        assert "out of order" not in problem(client.post("/predict", files=files(encoded())), 500)
        assert client.get("/readyz").status_code == 200


def test_the_document_describes_every_status_that_was_seen(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    described = document["paths"]["/predict"]["post"]["responses"]
    assert {"200", "400", "408", "413", "415", "422", "429", "500"} <= set(described)
    for status in set(described) - {"200"}:
        assert list(described[status]["content"]) == ["application/problem+json"]
    assert "/corrections" not in document["paths"]
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404  # they would load from elsewhere


# ---- addresses


def test_an_address_is_fetched_if_that_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "fetch", lambda *_, **__: encoded())
    with client_of(create_app(champion(tmp_path), LIMITS, allow_urls=True)) as client:
        (found,) = client.post("/predict", json={"url": "https://example.org/a.png"}).json()["results"]
        assert (found["image"], found["class"]) == ("https://example.org/a.png", "hot_dog")
        assert "application/json" in client.get("/openapi.json").text
        bodies: tuple[object, ...] = (
            {"url": "file:///etc/passwd"},
            {"url": 1},
            {},
            [],
            {"url": "http://a.b/", "more": 1},
        )
        for body in bodies:
            problem(client.post("/predict", json=body), 422)


def test_what_was_fetched_is_bounded_until_it_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "fetch", lambda *_, **__: encoded())
    monkeypatch.setattr(addresses, "_AT_ONCE", 1)
    answering, asked = threading.Event(), threading.Event()

    def wait() -> None:
        answering.set()
        asked.wait(30)

    app = create_app(champion(tmp_path, before=wait), LIMITS, allow_urls=True)
    with client_of(app) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/predict", json={"url": "http://a.b/"})
        assert answering.wait(30)
        response = client.post("/predict", json={"url": "http://a.b/"})
        asked.set()
        assert "Too many addresses" in problem(response, 429) and first.result().status_code == 200
        assert client.post("/predict", json={"url": "http://a.b/"}).status_code == 200


def test_a_private_address_is_not(tmp_path: Path) -> None:
    with client_of(create_app(champion(tmp_path), LIMITS, allow_urls=True)) as client:
        for place in ("http://127.0.0.1/", "http://localhost/", "http://[::ffff:10.0.0.1]/", "http://169.254.169.254/"):
            assert "no public address" in problem(client.post("/predict", json={"url": place}), 422)
