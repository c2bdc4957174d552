from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regsim.errors import NotFoundError, RegistryError
from regsim.registry.answer import Answer, ContentRange, refusal


def answered(status: int, body: bytes, *, url: str = "http://x/v2/y?_state=secret") -> RegistryError:
    return refusal(Answer(method="PUT", url=url, status=status, body=body))


def test_a_refusal_names_method_host_path_and_status_and_quotes_the_registry() -> None:
    error = answered(403, b'{"errors":[{"code":"DENIED","message":"not yours"},{"code":"NEW_CODE"}]}')
    assert str(error) == "PUT x/v2/y was answered 403 Forbidden; registry said: DENIED: not yours, NEW_CODE"
    assert (error.status, error.codes) == (403, ("DENIED", "NEW_CODE"))
    assert error.hint


def test_a_404_is_an_error_of_its_own() -> None:
    assert isinstance(answered(404, b""), NotFoundError)


def test_a_page_of_html_is_quoted_as_text() -> None:
    page = b"<html><head><title>x</title><style>p{}</style></head><body><h1>413</h1>\n<p>Too  large</p>"
    assert str(answered(413, page)).endswith("; registry said: 413 Too large")


@pytest.mark.parametrize(
    "body", [b'{"errors":null}', b'{"errors":[1]}', b'[{"errors":1}]', b'{"errors":[null]}', b"[" * 50_000]
)
def test_json_of_another_shape_is_quoted_as_it_is(body: bytes) -> None:
    assert "registry said: " in str(answered(500, body))


def test_an_empty_body_says_nothing() -> None:
    assert str(answered(599, b"")) == "PUT x/v2/y was answered 599"


def test_what_is_opened_over_and_over_and_never_closed_is_passed_over_at_once() -> None:
    # Looking for the end of each anew took seconds of everybody's time.
    assert str(answered(502, b"<p>Down</p>" + b"<script " * 8000)).endswith("registry said: Down")
    assert str(answered(502, b"<head><title>x</title><body>Down")).endswith("registry said: Down")


@given(body=st.binary(max_size=2000))
def test_any_body_gives_one_printable_line(body: bytes) -> None:
    message = str(answered(502, body))
    assert message.isprintable()
    assert len(message) < 400


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1, 1", "9" * 5000, "²"])
def test_a_length_that_cannot_be_read_is_none(text: str) -> None:
    answer = Answer(method="GET", url="http://x/y", status=200, headers={"Content-Length": text})
    assert answer.length is None


def test_a_content_range_tells_first_last_and_total() -> None:
    assert ContentRange.of({"Content-Range": "bytes 3-9/10"}) == (3, 9, 10)
    assert ContentRange.of({"Content-Range": "bytes 3-9/*"}) == (3, 9, None)
    assert ContentRange.of({"Content-Range": "3-9"}) is None
    assert ContentRange.of({}) is None
