"""The security settings: what contradicts itself is refused, and no secret is ever shown."""

from __future__ import annotations

import os
import traceback

import pytest

from app.errors import SettingsError
from app.kafka.security import kafka_security
from app.settings.security import keys_of
from app.settings.settings import PREFIX, load

SECRET = "hunter2-hunter2-hunter2"
PLAIN = {
    "EBS_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "EBS_SASL_MECHANISM": "PLAIN",
    "EBS_SASL_USERNAME": "me",
    "EBS_SASL_PASSWORD": SECRET,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Return a function that sets variables, with none of ours there before."""
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)

    def set_all(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


def test_plaintext_needs_nothing():
    """Without settings clients are given nothing."""
    assert {} == kafka_security(load())


def test_password_reaches_the_clients(environment):
    """User and password are handed on as aiokafka takes them."""
    environment(PLAIN | {"EBS_SECURITY_PROTOCOL": "sasl_plaintext", "EBS_SASL_MECHANISM": "scram-sha-512"})
    expected = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "me",
        "sasl_plain_password": SECRET,
    }
    assert expected == kafka_security(load())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"EBS_SECURITY_PROTOCOL": "PLAINTEXT"}, "EBS_SASL_MECHANISM is set, but EBS_SECURITY_PROTOCOL=PLAINTEXT"),
        ({"EBS_SASL_MECHANISM": ""}, "needs EBS_SASL_MECHANISM: PLAIN, SCRAM-SHA-256"),
        ({"EBS_SASL_USERNAME": ""}, "EBS_SASL_MECHANISM=PLAIN needs EBS_SASL_USERNAME"),
        ({"EBS_SASL_PASSWORD": ""}, "needs EBS_SASL_PASSWORD (or EBS_SASL_PASSWORD_FILE)"),
        ({"EBS_SASL_MECHANISM": "OAUTHBEARER"}, "needs EBS_SASL_OAUTH_TOKEN_FILE"),
        ({"EBS_SASL_MECHANISM": "MD5"}, "EBS_SASL_MECHANISM=MD5: input should be"),
        ({"EBS_SSL_CAFILE": "/ca.pem"}, "EBS_SSL_CAFILE is set, but EBS_SECURITY_PROTOCOL=SASL_PLAINTEXT"),
        ({"EBS_SSL_CHECK_HOSTNAME": "false"}, "EBS_SSL_CHECK_HOSTNAME is set, but"),
        ({"EBS_SECURITY_PROTOCOL": "SASL_SSL", "EBS_SSL_KEYFILE": "/k.pem"}, "EBS_SSL_KEYFILE is set without"),
        ({"EBS_SASL_PASSWORD_FILE": "/nowhere"}, "EBS_SASL_PASSWORD and EBS_SASL_PASSWORD_FILE are both set"),
        ({"EBS_API_KEYS_READ": "short"}, "EBS_API_KEYS_READ: each key has 16 to 256 characters"),
        ({"EBS_CORS_ORIGINS": "shop.example"}, "EBS_CORS_ORIGINS=shop.example: each is scheme://host"),
        ({"EBS_CORS_ORIGINS": "*"}, "EBS_CORS_ORIGINS=*: each is scheme://host"),
        ({"EBS_TRUSTED_PROXIES": "proxy"}, "EBS_TRUSTED_PROXIES=proxy: each is an address or a network"),
    ],
)
def test_contradiction_is_one_sentence_with_the_fix(environment, change, expected):
    """What does not go together is refused at the start."""
    environment(PLAIN | change)
    with pytest.raises(SettingsError) as refused:
        load()
    assert expected in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("variable", ["EBS_SASL_PASSWORD", "EBS_API_KEYS_WRITE", "EBS_API_KEY", "EBS_SSL_KEY_PASSWORD"])
def test_secret_may_come_from_a_file(environment, tmp_path, variable):
    """The variable with _FILE names it; the newline that editors add is no part of it."""
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    protocol = {"EBS_SECURITY_PROTOCOL": "SASL_SSL", "EBS_SSL_CERTFILE": "/c.pem"}
    environment({**PLAIN, **protocol, variable: "", f"{variable}_FILE": str(path)})
    assert SECRET == getattr(load(), variable.removeprefix(PREFIX).lower()).get_secret_value()


def test_secret_file_that_is_not_there_is_named(environment):
    """The sentence has the variable and the path."""
    environment({"EBS_API_KEY_FILE": "/nowhere/at/all"})
    with pytest.raises(SettingsError, match=r"EBS_API_KEY_FILE=/nowhere/at/all cannot be read \(No such file"):
        load()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"EBS_SSL_CAFILE": "/nowhere.pem"}, r"EBS_SSL_CAFILE=/nowhere.pem cannot be used \(No such file"),
        ({"EBS_SSL_CERTFILE": "/nowhere.pem"}, r"EBS_SSL_CERTFILE=/nowhere.pem cannot be used \(No such file"),
        ({"EBS_SSL_CAFILE": __file__}, r"EBS_SSL_CAFILE=.* cannot be used \("),
    ],
)
def test_file_of_no_use_is_named(environment, change, expected):
    """A certificate that is not there, or none, is refused before any broker is asked."""
    environment({"EBS_SECURITY_PROTOCOL": "SSL"} | change)
    with pytest.raises(SettingsError, match=expected):
        kafka_security(load())


def test_token_is_read_again_for_each_connection(environment, tmp_path):
    """A token file that somebody renews is followed; an empty one is refused at the start."""
    path = tmp_path / "token"
    path.write_text("")
    protocol = {"EBS_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "EBS_SASL_MECHANISM": "OAUTHBEARER"}
    environment({**protocol, "EBS_SASL_OAUTH_TOKEN_FILE": str(path)})
    with pytest.raises(SettingsError, match="is empty"):
        kafka_security(load())
    path.write_text("first\n")
    provider = kafka_security(load())["sasl_oauth_token_provider"]
    path.write_text("second")
    assert "second" == provider.read()


def test_several_keys_are_separated_by_commas_or_lines(environment):
    """For a rotation the old key and the new one hold together."""
    environment({"EBS_API_KEYS_READ": f"{SECRET}, {SECRET[::-1]}\n"})
    assert (SECRET, SECRET[::-1]) == keys_of(load().api_keys_read)


def test_no_secret_is_shown(environment):
    """Neither `repr` nor `str` nor a dump for people nor a traceback of a bad setting has a secret in it."""
    environment(PLAIN | {"EBS_API_KEYS_WRITE": SECRET, "EBS_API_KEY": SECRET})
    settings = load()
    assert SECRET not in f"{settings!r} {settings!s} {settings.model_dump()} {settings.model_dump_json()}"
    environment({"EBS_API_KEY": f"{SECRET} with spaces!"})
    with pytest.raises(SettingsError) as refused:
        load()
    assert SECRET not in "".join(traceback.format_exception(refused.value))
