"""A real Kafka with users, certificates and access control, beside its plain listener that only tests use."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trustme
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest
from cryptography.hazmat.primitives import serialization
from ebs.local.ports import LOOPBACK, free_port

from ebs.local.embedded_kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

PASSWORD = "correct-horse-battery-staple"
ADMIN = "admin"
ROLES = ("ebs-topics", "ebs-api", "ebs-distribution", "ebs-processing", "ebs-statistics")
_USERS = (ADMIN, "nobody", *ROLES)

_RESOURCE = {"topic": 2, "group": 3, "cluster": 4, "transactional id": 5}
_OPERATION = {
    "Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10, "IdempotentWrite": 12,
}  # fmt: skip
_LITERAL, _PREFIXED, _ALLOW = 3, 4, 3


@dataclass(frozen=True)
class Certificates:
    """PEM files: the authority's, a client's with its key (and encrypted), and an authority that nobody knows."""

    authority: Path
    client: Path
    client_key: Path
    client_key_encrypted: Path
    other_authority: Path
    broker: Path


def make_certificates(directory: Path) -> Certificates:
    """Write them all into a directory."""
    authority = trustme.CA()
    broker, client = authority.issue_cert(LOOPBACK), authority.issue_cert("client@ebs.example")
    found = Certificates(*(directory / f"{name}.pem" for name in Certificates.__dataclass_fields__))
    authority.cert_pem.write_to_path(found.authority)
    trustme.CA().cert_pem.write_to_path(found.other_authority)
    found.client.write_bytes(b"".join(blob.bytes() for blob in client.cert_chain_pems))
    found.client_key.write_bytes(_key_of(client))
    encryption = serialization.BestAvailableEncryption(PASSWORD.encode())
    found.client_key_encrypted.write_bytes(_key_of(client, encryption))
    found.broker.write_bytes(_key_of(broker) + b"".join(blob.bytes() for blob in broker.cert_chain_pems))
    return found


def _key_of(certificate: trustme.LeafCert, encryption: Any = None) -> bytes:
    """Return the key as PKCS 8, the only form that Kafka reads."""
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption or serialization.NoEncryption()
    )


class SecureKafka:
    """`kafka` listens in plain text for tests; `bootstrap_of(protocol)` is where strangers have to prove themselves."""

    def __init__(self, directory: Path) -> None:
        self.certificates = make_certificates(directory)
        self._ports = {name: free_port() for name in ("SASL_PLAINTEXT", "SSL", "SASL_SSL")}
        plain_port, self._controller_port = free_port(), free_port()
        self.kafka = EmbeddedKafka(
            directory,
            port=plain_port,
            extra_properties=self._properties(plain_port),
            format_options=[
                f"--add-scram={mechanism}=[name={user},password={PASSWORD}]"
                for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
                for user in _USERS
            ],
        )

    def bootstrap_of(self, protocol: str) -> str:
        """Return HOST:PORT of a listener."""
        return f"{LOOPBACK}:{self._ports[protocol]}"

    def environment(self, protocol: str, mechanism: str = "", user: str = ADMIN) -> dict[str, str]:
        """Return the settings of a process that may come in."""
        env = {"EBS_BROKER": self.bootstrap_of(protocol), "EBS_SECURITY_PROTOCOL": protocol}
        if mechanism:
            env |= {"EBS_SASL_MECHANISM": mechanism, "EBS_SASL_USERNAME": user, "EBS_SASL_PASSWORD": PASSWORD}
        if protocol.endswith("SSL"):
            env["EBS_SSL_CAFILE"] = str(self.certificates.authority)
        if protocol == "SSL":
            env["EBS_SSL_CERTFILE"] = str(self.certificates.client)
            env["EBS_SSL_KEYFILE"] = str(self.certificates.client_key_encrypted)
            env["EBS_SSL_KEY_PASSWORD"] = PASSWORD
        return env

    async def allow(self, user: str, rights: Iterable[tuple[str, str, str]]) -> None:
        """Let a user do things: each right is a kind of resource, its name (`x*`: all that begin so), an operation."""
        async with self._admin() as admin:
            for kind, name, operation in rights:
                pattern = _PREFIXED if name.endswith("*") else _LITERAL
                request = CreateAclsRequest(
                    _RESOURCE[kind], name.removesuffix("*"), pattern, f"User:{user}", "*", _OPERATION[operation], _ALLOW
                )
                response = await admin._send_request(request)
                assert [0] == [code for code, _message in response.creation_responses], response

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    def _properties(self, plain_port: int) -> str:
        listeners = {"PLAINTEXT": plain_port} | self._ports
        advertised = ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in listeners.items())
        users = " ".join(f'user_{user}="{PASSWORD}"' for user in _USERS)
        lines = [
            f"listeners={advertised},CONTROLLER://{LOOPBACK}:{self._controller_port}",
            f"controller.quorum.voters=1@{LOOPBACK}:{self._controller_port}",
            f"advertised.listeners={advertised}",
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT," + ",".join(f"{name}:{name}" for name in listeners),
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "ssl.client.auth=none",
            "listener.name.ssl.ssl.client.auth=required",
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={self.certificates.broker}",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={self.certificates.authority}",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # Who comes by the plain listener is ANONYMOUS; by certificate it is the one that `make_certificates` made.
            f"super.users=User:ANONYMOUS;User:{ADMIN}",
            # Not .*: it matches once more, behind the end, and the name comes out twice.
            "ssl.principal.mapping.rules=RULE:^.+$/admin/",
        ]
        for listener in ("sasl_plaintext", "sasl_ssl"):
            plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
            scram = "org.apache.kafka.common.security.scram.ScramLoginModule"
            lines.append(f"listener.name.{listener}.plain.sasl.jaas.config={plain} required {users};")
            lines += [
                f"listener.name.{listener}.scram-sha-{bits}.sasl.jaas.config={scram} required;" for bits in (256, 512)
            ]
        return "\n".join(lines) + "\n"
