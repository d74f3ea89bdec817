"""Which zone an address proves, and what is said where it proves none."""

import pytest

from nexus.trust import Proof, Trusted

WRITTEN, FOUND = "the configuration names it", None


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """One with a single address, which is public, and no Tailscale."""
    monkeypatch.setattr("nexus.trust.is_own", lambda address: address == "198.51.100.77")
    monkeypatch.setattr("nexus.trust.interfaces", lambda: ("lo", "eth0"))


def proof(*trusted: str, host: str = "gpubox", vouched: str | None = WRITTEN, runs_models: bool = True) -> Proof:
    return Proof(host=host, kind="ollama", runs_models=runs_models, vouched=vouched, trusted=Trusted(trusted))


@pytest.mark.parametrize(
    ("vouched", "trusted", "host", "addresses", "zone"),
    [
        (WRITTEN, (), "gpubox", ["192.168.1.20"], "restricted"),
        (WRITTEN, (), "gpubox", ["198.51.100.77"], "restricted"),  # this machine's own
        (WRITTEN, (), "gpubox", ["fd00::1"], "restricted"),
        (WRITTEN, (), "gpubox", ["fe80::1%eth0"], "restricted"),
        (WRITTEN, (), "gpubox", ["fd7a:115c:a1e0::1"], "restricted"),
        (WRITTEN, (), "gpubox", ["203.0.113.7"], "open"),
        (WRITTEN, (), "gpubox", ["192.168.1.20", "203.0.113.7"], "open"),
        (WRITTEN, (), "gpubox", ["2001:db8::7", "192.168.1.20"], "open"),
        (WRITTEN, (), "gpubox", ["::ffff:203.0.113.7"], "open"),
        (WRITTEN, (), "gpubox", [], "open"),
        (WRITTEN, (), "gpubox", ["100.101.102.103"], "open"),
        # what the operator trusts is trusted: written into [[backends]], or found
        *[
            (vouched, trusted, "gpubox", addresses, "restricted")
            for vouched in (WRITTEN, FOUND)
            for trusted, addresses in [
                (("100.64.0.0/10",), ["100.101.102.103"]),
                (("100.101.102.103",), ["100.101.102.103"]),
                (("100.101.102.103/10",), ["100.64.0.1"]),
                (("203.0.113.0/24",), ["203.0.113.7"]),
                (("2001:db8::/32",), ["2001:db8::7"]),
                (("[2001:db8::7]",), ["2001:db8::7"]),
                (("203.0.113.0/24",), ["::ffff:203.0.113.7"]),
                (("fd7a:115c:a1e0::/48",), ["fd7a:115c:a1e0::1"]),
                (("192.168.0.0/16", "203.0.113.7"), ["192.168.1.20", "203.0.113.7"]),
                (("gpubox",), ["203.0.113.7"]),
            ]
        ],
        (FOUND, ("203.0.113.0/24",), "gpubox", ["203.0.113.7", "203.0.114.7"], "open"),
        (FOUND, ("192.168.1.0/24",), "gpubox", ["192.168.2.20"], "open"),
        (FOUND, (), "gpubox", ["192.168.1.20"], "open"),
        *[
            (FOUND, (entry,), host, ["192.168.1.20"], "restricted")
            for entry, host in [
                ("gpubox.local", "gpubox.local"),
                ("gpubox.local", "gpubox.local."),
                ("gpubox.local.", "gpubox.local"),
                ("GPUBox.Local", "gpubox.local"),
                ("gpubox.local", "GPUBOX.LOCAL."),
            ]
        ],
        (FOUND, ("gpubox",), "gpubox.local", ["192.168.1.20"], "open"),  # another name, and perhaps another machine
        (FOUND, ("box.local",), "gpubox.local", ["192.168.1.20"], "open"),
    ],
)
def test_what_proves_a_zone(vouched, trusted, host, addresses, zone):
    found, why = proof(*trusted, host=host, vouched=vouched).zone(addresses)
    assert found == zone, why
    assert why


def test_a_kind_that_forwards_is_open_wherever_it_is():
    found, why = proof("192.168.1.20", runs_models=False).zone(["192.168.1.20"])
    assert found == "open"
    assert 'zone = "restricted"' in why


def test_a_trusted_name_is_trusted_at_the_public_address_that_it_had():
    it = proof("gpu.example.org", host="gpu.example.org", vouched=FOUND)
    assert it.zone([])[0] == "open"
    assert it.zone(["203.0.113.7"])[0] == "restricted"
    assert it.zone(["203.0.113.8"])[0] == "open"
    assert it.zone(["203.0.113.7", "203.0.113.8"])[0] == "open"
    assert it.zone(["203.0.113.7"])[0] == "restricted"
    assert it.zone(["192.168.1.20"])[0] == "restricted"


@pytest.mark.parametrize(
    ("cards", "said"),
    [(("lo", "tailscale0"), "this machine is in a Tailscale network (tailscale0)"), (("lo",), "providers share this range")],
)
def test_an_address_of_a_tailnet_is_explained(monkeypatch, cards, said):
    monkeypatch.setattr("nexus.trust.interfaces", lambda: cards)
    why = proof().zone(["100.101.102.103"])[1]
    assert said in why
    assert 'trusted = ["100.101.102.103"]' in why
    assert "Tailscale" not in proof().zone(["203.0.113.7"])[1]


def test_what_can_not_be_yours_is_not_asked_to_be_written_as_such():
    cloud = Proof(host="api.openai.com", kind="openai", runs_models=False, cloud=True, vouched="x", trusted=Trusted(()))
    for addresses in ([], ["162.159.140.245"], ["127.0.0.1"]):
        assert cloud.zone(addresses) == ("open", "a server of type openai is somebody else's, not on a machine of yours")
    far = proof(host="8.8.8.8", runs_models=False).zone(["8.8.8.8"])
    assert far == ("open", "8.8.8.8 is not a private address")
