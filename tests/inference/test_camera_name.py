from __future__ import annotations

import pytest

from farfield.errors import FarfieldError
from farfield.inference.camera_name import named_sources, split_name, without_passwords


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("rtsp://user:p@ss@10.0.0.1/a", "rtsp://10.0.0.1/a"),
        ("RTSP://user@camera:554/a?channel=1", "RTSP://camera:554/a?channel=1"),
        ("rtsp://c/x?user=admin&password=s3cret&channel=2", "rtsp://c/x?user=...&password=...&channel=2"),
        ("http://c/x?Token=abc", "http://c/x?Token=..."),
        ("http://c/@home", "http://c/@home"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_names_hold_no_passwords(source: str, name: str) -> None:
    assert split_name(source)[0] == name


def test_messages_hold_no_passwords() -> None:
    message = "Connection to rtsp://me:pw@host/x?token=abc failed: try http://a:b@c/ or tcp://d:9"
    assert without_passwords(message) == "Connection to rtsp://host/x?token=... failed: try http://c/ or tcp://d:9"


def test_a_camera_may_be_given_a_name() -> None:
    assert split_name("front door=rtsp://a:b@c/d?e=f") == ("front door", "rtsp://a:b@c/d?e=f")
    assert split_name("rtsp://a:b@c/d?e=f") == ("rtsp://c/d?e=f", "rtsp://a:b@c/d?e=f")
    assert split_name("/videos/a=b.mp4") == ("/videos/a=b.mp4", "/videos/a=b.mp4")


def test_names_must_differ() -> None:
    assert named_sources(["a=x", "b=x"]) == [("a", "x"), ("b", "x")]
    with pytest.raises(FarfieldError, match=r"two cameras have the name 'rtsp://c/'; names must differ. Name each"):
        named_sources(["rtsp://one:1@c/", "rtsp://two:2@c/"])
    with pytest.raises(FarfieldError, match="no camera is given; at least one is needed"):
        named_sources([])
