"""The server's answers, and what it refuses."""

import json

import numpy as np
import pytest

from aqqua.explore.server.app import LOCAL, create_app
from aqqua.explore.server.asked import AskedAtlas

CELLS = "density?width=9&height=9"
WRONG_COLOURS = (
    *(f"{CELLS}&column=nope", f"{CELLS}&column=label", f"{CELLS}&column=label&names=7"),
    *(f"{CELLS}&column=label&names={'[' * 9000}", f"{CELLS}&column=depth_m&low=0&high=inf&steps=9"),
    *(f"{CELLS}&column=depth_m&low=0&high=1&steps=inf", "cell?column=nope"),
)
testing = pytest.importorskip("starlette.testclient")


@pytest.fixture(scope="module")
def client(asked, second_path):
    app = create_app([asked, AskedAtlas(second_path)], "<p>page</p>", "default-src 'none'", None, list(LOCAL))
    return testing.TestClient(app, base_url="http://127.0.0.1:8047")


def test_arrays_and_json_are_those_of_the_atlas(client, asked):
    points = np.frombuffer(client.get("/api/0/points").content, "<f4")
    assert np.array_equal(points, np.concatenate(asked.points))
    for name in ("label", "depth_m", "time"):
        got = client.get("/api/0/values", params={"column": name}).content
        assert got == asked.values(name).values.tobytes()
        assert client.get("/api/0/column", params={"column": name}).json() == asked.values(name).about()
    filters = json.dumps([{"column": "instrument", "names": ["IFCB"]}])
    bits = np.frombuffer(client.get("/api/0/filter", params={"filters": filters}).content, np.uint8)
    kept = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
    codes = asked.values("instrument")
    assert kept.tolist() == np.flatnonzero(codes.values == codes.names.index("IFCB")).tolist()
    told = client.get("/api/0/histogram", params={"column": "instrument", "filters": filters}).json()
    assert sum(told["kept"]) == len(kept)
    assert client.get("/api/0/neighbours?rows=7").json() == asked.neighbours(7)
    assert client.get("/api/0/details?rows=7").json() == asked.details(7)
    assert client.get("/api/0/ids?rows=3,1").json() == ["img_0000003", "img_0000001"]
    assert np.frombuffer(client.get("/api/link").content, "<i4")[:3].tolist() == [0, 1, 2]
    assert [a["rows"] for a in client.get("/api/about").json()["atlases"]] == [3000, 500]


def test_cells_of_a_window_and_what_is_in_one(client, asked):
    window = {"left": -1, "right": 1, "bottom": -1, "top": 1}
    names = json.dumps(list(asked.values("label").names[:3]))
    question = {**window, "width": 40, "height": 30, "column": "label", "names": names}
    shade, code = np.frombuffer(client.get("/api/0/density", params=question).content, np.uint8).reshape(
        2, 30, 40
    )
    assert shade.max() == 255
    assert set(code[shade > 0].tolist()) <= set(range(5))
    filters = json.dumps([{"column": "instrument", "names": ["IFCB"]}])
    told = client.get("/api/0/cell", params={**window, "column": "label", "filters": filters}).json()
    kept = asked.kept(json.loads(filters))
    x, y = asked.points
    assert told["count"] == int(((x[kept] < 1) & (y[kept] > -1)).sum())
    assert told["row"] in kept
    assert told["name"] == asked.values("label").names[asked.values("label").values[told["row"]]]


def test_a_wall_is_its_pictures_end_to_end(client, asked):
    got = client.get("/api/0/wall?rows=5,2,5").content
    count, *sizes = np.frombuffer(got[:16], "<u4").tolist()
    assert count == 3
    right = asked.thumbnails([5, 2, 5])
    assert sizes == [len(one) for one in right]
    assert got[16:] == b"".join(right)
    one = client.get("/api/0/thumbnail?rows=5")
    assert one.content == right[0]
    assert one.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "address",
    [
        *("/api/2/points", "/api/0/values?column=nope", "/api/0/values?column=thumbnail", "/api/0/values"),
        *("/api/0/wall?rows=-1", "/api/0/wall?rows=99999", "/api/0/wall?rows=1;2", "/api/0/wall?rows=²"),
        "/api/0/wall?rows=" + ",".join(["1"] * 300),
        *("/api/0/details", "/api/0/details?rows=1,2", "/api/0/filter?filters=x", "/api/0/lasso?corners=a"),
        *("/api/0/density?width=9", "/api/0/density?width=9&height=9&left=0&right=0&bottom=0&top=1"),
        "/api/0/density?width=9999&height=9&left=0&right=1&bottom=0&top=1",
        *(f"/api/0/{ask}&left=0&right=1&bottom=0&top=1" for ask in WRONG_COLOURS),
        "/api/0/cell?left=1&right=0&bottom=0&top=1",
    ],
)
def test_wrong_questions_get_one_sentence(client, address):
    answer = client.get(address)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert "must" in answer.json()["error"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "address", ["/nothing", "/api/0/nothing", "/api/x/points", "/../etc/passwd", "/api/-1/points"]
)
def test_other_addresses_are_not_found(client, address):
    assert client.get(address).status_code == 404
    assert client.post("/api/0/points").status_code == 404


def test_another_name_of_the_machine_is_refused(client):
    for host in ("evil.example", "evil.example:8047", "127.0.0.1.evil.example", ""):
        assert client.get("/api/about", headers={"host": host}).status_code == 403
    for host in ("localhost:8047", "127.0.0.1", "[::1]:8047", "[::1]"):
        assert client.get("/api/about", headers={"host": host}).status_code == 200


def test_a_token_is_asked_for_and_remembered(asked):
    app = create_app([asked], "page", "default-src 'none'", "a-long-token-of-mine", ["*"])
    client = testing.TestClient(app, base_url="http://somewhere:80")
    for address in ("/", "/api/about", "/api/0/points", "/?token=wrong", "/?token=ü"):
        assert client.get(address).status_code == 403
    answer = client.get("/?token=a-long-token-of-mine")
    assert answer.status_code == 200
    assert "httponly" in answer.headers["set-cookie"].lower()
    assert answer.headers["content-security-policy"] == "default-src 'none'"
    assert client.get("/api/0/points").status_code == 200  # by its cookie
