"""Clients' keys: made, hashed, found, and read from the headers that clients use."""

import pytest
from multidict import CIMultiDict

from nexus.config import KeyConfig, load
from nexus.errors import ConfigError
from nexus.keys import CREDENTIAL_HEADERS, Keyring, hash_key, key_in, new_key


def test_a_new_key_is_random_and_its_hash_is_what_the_file_takes():
    one, two = new_key(), new_key()
    assert one != two
    text, hashed = one
    assert text.startswith("nx-")
    assert len(text) == 46
    assert text.isascii()
    assert hashed == hash_key(text)
    assert text not in hashed
    assert KeyConfig(name="a", hash=hashed).hash == hashed
    with pytest.raises(ConfigError, match="this is the key itself"):
        load({"keys": [{"name": "a", "hash": text}]}, env={})


def test_a_hash_does_not_change_from_release_to_release():
    assert hash_key("nx-test") == "sha256:19b8adddab74818a04ad7143c9c6cbb6bddb0581c4847812ac2ee04dfef3ac61"


def test_a_keyring_finds_whose_key_it_is():
    (mine, my_hash), (theirs, their_hash) = new_key(), new_key()
    ring = Keyring([KeyConfig(name="mine", hash=my_hash), KeyConfig(name="theirs", hash=their_hash)])
    assert ring.find(mine).name == "mine"
    assert ring.find(theirs).name == "theirs"
    for wrong in (None, "", "nx-", mine[:-1], mine + " ", my_hash, "\udcff", "ü"):
        assert ring.find(wrong) is None
    assert ring
    assert not Keyring([])
    assert Keyring([]).find(mine) is None


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bearer   abc "}, "abc"),
        ({"x-api-key": "abc"}, "abc"),
        ({"x-goog-api-key": " abc"}, "abc"),
        ({"authorization": "Bearer a", "x-api-key": "b"}, "a"),
        ({"authorization": "Basic abc", "x-api-key": "b"}, "b"),
        ({"authorization": "Basic abc"}, None),
        ({"authorization": "Bearer"}, None),
        ({"authorization": "Bearer "}, None),
        ({"authorization": "", "x-api-key": " "}, None),
        ({}, None),
    ],
)
def test_the_key_in_a_requests_headers(headers, key):
    assert key_in(headers) == key
    assert key_in(CIMultiDict({name.title(): value for name, value in headers.items()})) == key


def test_every_header_that_is_read_is_known_as_a_credential():
    for name in CREDENTIAL_HEADERS:
        assert key_in({name: "Bearer abc" if name == "authorization" else "abc"}) == "abc"
