"""What Envoy's counters say of TLS groups."""

from __future__ import annotations

from lab.check.groups import groups_in, named

STATS = """\
cluster.lux-k8s.validator.9650.ssl.curves.X25519: 2
cluster.postgres.hanzo:5432.ssl.curves.X25519MLKEM768: 40
listener.0.0.0.0_15006.ssl.curves.X25519MLKEM768: 5
listener.0.0.0.0_15006.ssl.ciphers.TLS_AES_256_GCM_SHA384: 45
"""


def test_handshakes_of_all_listeners_and_clusters_are_summed() -> None:
    found = groups_in(STATS)
    assert list(found.items()) == [("X25519MLKEM768", 45), ("X25519", 2)]
    assert named(found) == "X25519MLKEM768 45, X25519 2"
    assert named({"X25519": 7}) == "X25519"


def test_who_has_shaken_no_hands_has_none() -> None:
    assert groups_in("") == {}
    assert named({}) == ""
