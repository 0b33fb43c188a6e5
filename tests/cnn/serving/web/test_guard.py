"""The guard: what another site's page sends is refused, and the page asks nobody else."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from stub_predictor import application, client_of, encoded

from cnn.serving.web import page
from cnn.serving.web.guard import names_of

PAGE = Path(page.__file__).parent / "templates" / "page.html"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://localhost"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:81"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example:80"}, 421),
        ({"host": "["}, 421),
        ({"host": "127.0.0.1:8080"}, 200),
        ({"host": "[::1]:8080"}, 200),
    ],
)
def test_only_our_own_page_is_served(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    with client_of(application(tmp_path, names=names_of("127.0.0.1"))) as client:
        client.base_url = "http://localhost"
        response = client.post("/predict", files={"image": ("a", encoded())}, headers=headers)
        assert response.status_code == status
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in response.headers
        if status != 200:
            assert response.headers["content-type"] == "application/problem+json"


def test_a_page_of_another_site_may_lead_here(tmp_path: Path) -> None:
    with client_of(application(tmp_path)) as client:
        assert client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200


def test_the_page_runs_its_own_script_and_style_only(tmp_path: Path) -> None:
    with client_of(application(tmp_path)) as client:
        response = client.get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    for kind in ("script", "style"):
        (block,) = re.findall(rf"<{kind}>(.*?)</{kind}>", response.text, re.DOTALL)
        assert f"{kind}-src 'sha256-{b64encode(sha256(block.encode()).digest()).decode()}'" in policy
    assert not re.findall(r"""\s(style|on\w+)=["']""", response.text)


def test_the_page_names_no_address_outside() -> None:
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.[\w./-]+", PAGE.read_text(encoding="utf-8")))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of SVG, which nobody asks


def test_a_name_cannot_end_the_script(tmp_path: Path) -> None:
    html, _ = page.start_page('{"name": "</script><script>alert(1)//"}')
    assert html.count("<script") == 2 and html.count("</script>") == 2
