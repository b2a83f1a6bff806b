"""All keys that a real Vault has, so that they can be looked for elsewhere."""

from __future__ import annotations

import base64
import json

import pytest

from lab.scan.kms import _forms_in, opening
from tests.lab.gateway.conftest import Site

pytestmark = pytest.mark.timeout(1200)


def book(key: bytes) -> dict[str, str]:
    return {"book": json.dumps({"keys": {"0": {"private": base64.b64encode(key).decode()}}})}


def test_versions_that_are_disabled_are_known_and_stay_disabled(site: Site, path: str) -> None:
    store, keys = site.store(), [bytes([number]) * 32 for number in (1, 2, 3)]
    for key in keys:
        store.write(path, book(key))
    store.disable(path, 1)
    found = {*_forms_in(site.kms)}
    assert {*keys, *map(base64.b64encode, keys)} <= found
    assert [item.enabled for item in store.versions(path)] == [False, True, True]


def test_many_versions_are_kept(site: Site, path: str) -> None:
    store = site.store()
    for number in range(1, 25):
        store.write(path, book(bytes([number]) * 32))
    assert bytes([1]) * 32 in {*_forms_in(site.kms)}


def test_what_opens_it_is_known(site: Site) -> None:
    secrets = json.loads(site.kms.secrets.read_text())
    (text, raw, token) = opening(secrets)
    assert text.decode() == secrets["keys"][0]
    assert base64.b64encode(raw).decode() == secrets["keys_base64"][0]
    assert token.startswith(b"hvs.")
