from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regsim.core import Digest
from regsim.errors import InvalidReferenceError

SHA256 = "sha256:" + "0123456789abcdef" * 4
SHA512 = "sha512:" + "0123456789abcdef" * 8


def test_digest_is_a_string_with_parts() -> None:
    digest = Digest(SHA256)
    assert digest == SHA256
    assert {digest: 1}[SHA256] == 1  # type: ignore[index]
    assert (digest.algorithm, digest.encoded, digest.short) == ("sha256", SHA256[7:], "0123456789ab")
    assert Digest(SHA512).algorithm == "sha512"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        ":abc",
        SHA256[:-1],
        SHA256 + "0",
        SHA256.upper(),
        SHA256.replace("a", "A"),
        SHA256.replace("a", "g"),
        SHA256 + "\n",
        " " + SHA256,
        "md5:" + "0" * 32,
        "sha256+b64:" + "0" * 64,
        "sha512:" + "0" * 64,
        "sha256:../../../etc/passwd",
        "sha256:" + "٣" * 64,
    ],
)
def test_what_is_no_verifiable_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        Digest(text)
    assert caught.value.hint


def test_long_text_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        Digest("x" * 100_000)
    assert len(caught.value.message) < 300


@given(st.binary(max_size=200), st.sampled_from(["sha256", "sha512"]))
def test_digest_of_bytes_matches_exactly_those_bytes(data: bytes, algorithm: str) -> None:
    digest = Digest.of(data, algorithm)
    assert digest == f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    hasher = digest.hasher()
    hasher.update(data)
    assert digest.matches(hasher)
    hasher.update(b"!")
    assert not digest.matches(hasher)
    assert Digest(digest) == digest
