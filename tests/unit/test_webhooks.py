"""Where callbacks may go, and how they are signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from yarl import URL

from app.errors import SettingsError
from app.settings.settings import load
from app.webhooks.hosts import hosts_of
from app.webhooks.signatures import keys_of_secrets, signed_headers

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 24).decode()


@pytest.mark.parametrize(
    ("entries", "url"),
    [
        ("shop.example", "https://shop.example/hooks?a=1&b=%20"),
        ("shop.example", "http://SHOP.example.:8443"),
        ("Shop.Example.", "https://shop.example/"),
        ("*.shop.example", "https://a.b.shop.example/x"),
        ("*", "https://any.example/"),
        ("*", "https://93.184.216.34/"),
        ("10.0.0.0/8", "http://10.1.2.3:8000/hook"),
        ("fd00::/8", "http://[fd00::1]:8000/hook"),
        ("localhost", "http://localhost:1/hook"),
        ("my_service", "http://my_service/hook"),
    ],
)
def test_url_of_a_listed_host_is_called(entries: str, url: str) -> None:
    """By name, below a name, or by address."""
    assert hosts_of((entries,)).why_refused(url) is None


@pytest.mark.parametrize(
    ("entries", "url", "words"),
    [
        ((), "https://shop.example/", "set EBS_WEBHOOK_HOSTS=shop.example"),
        (("shop.example",), "https://evil.example/", "add it to EBS_WEBHOOK_HOSTS"),
        (("shop.example",), "https://shop.example.evil.example/", "add it to EBS_WEBHOOK_HOSTS"),
        (("*.shop.example",), "https://shop.example/", "add it to EBS_WEBHOOK_HOSTS"),
        (("*.shop.example",), "https://evilshop.example/", "add it to EBS_WEBHOOK_HOSTS"),
        (("*",), "http://127.0.0.1/", "add it to EBS_WEBHOOK_HOSTS"),
        (("*",), "http://[::1]/", "add it to EBS_WEBHOOK_HOSTS"),
        (("*",), "http://[::ffff:169.254.169.254]/", "add it to EBS_WEBHOOK_HOSTS"),
        (("shop.example",), "http://10.0.0.1/", "add it to EBS_WEBHOOK_HOSTS"),
        (("*",), "ftp://shop.example/", "http:// or https:// URL"),
        (("*",), "file:///etc/passwd", "http:// or https:// URL"),
        (("*",), "https://user:secret@shop.example/", "without user"),
        (("*",), "https://shop.example\\@evil.example/", "http:// or https:// URL"),
        (("*",), "https://shop.example#@evil.example/", "http:// or https:// URL"),
        (("*",), "https://shop.example/a b", "http:// or https:// URL"),
        (("*",), "https://shop.example/\r\nHost: evil", "http:// or https:// URL"),
        (("*",), "https://shop.example/\u00e9", "in ASCII"),
        (("*",), "https://shop.example:99999/", "http:// or https:// URL"),
        (("*",), "https:///path", "http:// or https:// URL"),
        (("*",), "shop.example/hook", "http:// or https:// URL"),
        (("*",), "https://shop.example/" + "a" * 2_048, "2,048 characters"),
    ],
)
def test_other_urls_are_refused_with_words(entries: tuple[str, ...], url: str, words: str) -> None:
    """They name the setting, or the form."""
    refusal = hosts_of(entries).why_refused(url)
    assert refusal is not None
    assert words in refusal


@given(
    st.one_of(
        st.from_regex(r"https?://[a-zA-Z0-9._\-@:\\/#?%\[\]]{1,40}", fullmatch=True),
        st.text("htps:/.@\\[]#?%-a1:", max_size=40).map("http://".__add__),
    )
)
def test_url_that_is_taken_has_one_host_for_every_parser(url: str) -> None:
    """What checks a URL and what connects must not read two hosts in it."""
    if hosts_of(("*", "0.0.0.0/0", "::/0")).why_refused(url) is None:
        try:
            sent_to = URL(url).host
        except ValueError:
            return  # then nothing is connected to
        split = urlsplit(url)
        assert (split.hostname or "").rstrip(".").lower() == (sent_to or "").rstrip(".").lower()
        assert (None, None) == (split.username, URL(url).user)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "fec0::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "no address",
    ],
)
def test_address_that_is_not_public_is_refused(address: str) -> None:
    """Whatever names are listed: also an IPv4 address inside of an IPv6 one."""
    assert hosts_of(("*", "shop.example")).why_address_refused(address) is not None


def test_private_address_is_taken_where_its_network_is_listed() -> None:
    """Also when it comes inside of an IPv6 one; public addresses need not be listed."""
    hosts = hosts_of(("shop.example", "10.0.0.0/8", "::1"))
    assert [None] * 5 == [
        hosts.why_address_refused(one)
        for one in ("10.1.2.3", "::ffff:10.1.2.3", "::1", "93.184.216.34", "2606:2800:220:1::1")
    ]
    assert "192.168.0.1 is not a public address" in (hosts.why_address_refused("192.168.0.1") or "")


@pytest.mark.parametrize(
    "entry", ["https://shop.example", "shop.example:443", "shop.example/x", "*shop", "a b", "10.0.0.1/8", "1.2.3", "-a"]
)
def test_entry_that_is_no_host_is_refused_at_the_start(entry: str) -> None:
    """With the setting's name, and the forms that it takes."""
    with pytest.raises(SettingsError, match=r"EBS_WEBHOOK_HOSTS.*each is a name without scheme, port and path"):
        load(webhook_hosts=(entry,))


def test_signature_is_that_of_standard_webhooks() -> None:
    """HMAC-SHA256 of id, timestamp and body; with two secrets either verifies."""
    headers = signed_headers(keys_of_secrets([SECRET, OTHER]), "e-7f3a-1", 1_795_489_276, b'{"a":1}')
    signed = b'e-7f3a-1.1795489276.{"a":1}'
    expected = [
        "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        for key in (b"k" * 32, b"o" * 24)
    ]
    assert {
        "webhook-id": "e-7f3a-1",
        "webhook-timestamp": "1795489276",
        "webhook-signature": " ".join(expected),
    } == headers


def test_signature_of_the_specification_comes_out() -> None:
    """The example of the Standard Webhooks libraries (their own tests use it)."""
    (key,) = keys_of_secrets(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    headers = signed_headers([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" == headers["webhook-signature"]


@pytest.mark.parametrize("secret", ["hunter2", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64!", f"{SECRET},x"])
def test_secret_that_cannot_be_used_is_refused_and_not_repeated(secret: str) -> None:
    """The words say how to make one."""
    with pytest.raises(SettingsError, match="openssl rand -base64 32") as refused:
        load(webhook_secret=SecretStr(secret))
    assert f"={secret}" not in str(refused.value)
