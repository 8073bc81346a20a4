"""What is served where, and what is refused."""

import pytest

from aqqua.explore.server.serve import prepare


def test_this_machine_needs_no_token(atlas_path, second_path):
    served = prepare(atlas_path, second_path)
    assert (served.host, served.port, served.address) == ("127.0.0.1", 8047, "http://127.0.0.1:8047/")


def test_any_other_does(atlas_path):
    for host in ("0.0.0.0", "::", "192.168.1.4", "example.org"):
        with pytest.raises(ValueError, match=r"needs a token, got .* without; add --token"):
            prepare(atlas_path, host=host)
    token = "0123456789abcdef"
    assert prepare(atlas_path, host="0.0.0.0", token=token).address == f"http://0.0.0.0:8047/?token={token}"


def test_weak_tokens_and_wrong_ports_are_refused(atlas_path):
    for token in ("", "short", "with spaces in it, many", "ü" * 20):
        with pytest.raises(ValueError, match="a token must be"):
            prepare(atlas_path, token=token)
    for port in (0, -1, 70_000):
        with pytest.raises(ValueError, match="a port must be"):
            prepare(atlas_path, port=port)
    with pytest.raises(ValueError, match="must be a Parquet file"):
        prepare(atlas_path.parent / "absent.parquet")
