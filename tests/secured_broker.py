"""A real Kafka that trusts nobody: TLS on every listener, logins or client certificates, and rights denied by default.

Listeners: `sasl` (SASL_SSL: SCRAM-SHA-512, OAUTHBEARER; a certificate that a client shows must be right) and `tls`
(mutual TLS: a client is who its certificate names).
Controllers and brokers speak mutual TLS among themselves. Accounts and rights are given by an administrator's client.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives import serialization

from resources.embedded.broker_configuration import new_cluster_id, server_properties
from resources.jars import broker_jars
from resources.java import java_binary
from resources.kafka import KafkaResource
from resources.ports import answers, free_port
from resources.settings import Settings
from tests.token_endpoint import TokenEndpoint

BROKER, ADMIN = "broker", "administrator"
_HEAP = ("-Xms96m", "-Xmn48m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_LOGIN = "org.apache.kafka.common.security"


@dataclass
class Certificates:
    """An authority, and PEM files of what it has issued."""

    folder: Path
    authority: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.authority.cert_pem.write_to_path(self.ca)

    @property
    def ca(self) -> Path:
        """The authority's own certificate."""
        return self.folder / "ca.pem"

    def issue(self, name: str, *hosts: str, until: datetime | None = None, file: str = "") -> Path:
        """A certificate of `CN=name` (for hosts, or a client), its key in PKCS#8, and both in one file, returned.

        The files are named `file`, else as the certificate is.
        """
        issued = self.authority.issue_cert(
            *(hosts or (f"{name}.test",)), common_name=name, organization_unit_name="tests", not_after=until
        )
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        certificate = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        file = file or name
        (self.folder / f"{file}.pem").write_bytes(certificate)
        (self.folder / f"{file}-key.pem").write_bytes(text)
        both = self.folder / f"{file}-both.pem"
        both.write_bytes(text + certificate)
        return both


@dataclass
class SecuredBroker:
    """A running broker. `sasl` and `tls` are the addresses of its listeners, `plain` where it is open to all."""

    folder: Path
    certificates: Certificates
    tokens: TokenEndpoint
    sasl: str
    tls: str
    plain: str = ""
    process: subprocess.Popen[bytes] | None = None
    _admin: AdminClient | None = None

    @staticmethod
    def make(folder: Path, tokens: TokenEndpoint, *, is_open: bool = False) -> SecuredBroker:
        """Its certificates and properties; nothing runs yet.

        `is_open`: it has a third listener, for comparisons, which encrypts nothing and lets everybody do everything.
        """
        certificates = Certificates(folder / "certificates")
        certificates.issue(BROKER, "127.0.0.1")
        certificates.issue(ADMIN)
        sasl, tls, controller = free_port(), free_port(), free_port()
        broker = SecuredBroker(folder, certificates, tokens, f"127.0.0.1:{sasl}", f"127.0.0.1:{tls}")
        properties = broker._properties(controller)
        if is_open:
            broker.plain = f"127.0.0.1:{free_port()}"
            for key in ("listeners", "advertised.listeners"):
                properties[key] += f",PLAIN://{broker.plain}"
            properties["listener.security.protocol.map"] += ",PLAIN:PLAINTEXT"
            properties["super.users"] += ";User:ANONYMOUS"
        (folder / "server.properties").write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        return broker

    def start(self) -> None:
        """Returns when both listeners answer."""
        java = [str(java_binary()), *_HEAP, f"-Dheadrace.log={self.folder / 'broker.log'}"]
        log4j = Path(__file__).parents[1] / "resources" / "embedded" / "broker_log4j2.properties"
        java += [f"-Dlog4j2.configurationFile={log4j}"]
        # Kafka asks nobody for keys or tokens who is not named here.
        java += [f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.tokens.jwks_url}"]
        java += ["-cp", os.pathsep.join(str(jar) for jar in broker_jars())]
        properties = str(self.folder / "server.properties")
        with (self.folder / "broker.out").open("ab") as output:
            if not (self.folder / "data" / "meta.properties").exists():
                tool = ["kafka.tools.StorageTool", "format", "-t", new_cluster_id(), "-c", properties]
                subprocess.run([*java, *tool], check=True, stdout=output, stderr=output)
            self.process = subprocess.Popen([*java, "kafka.Kafka", properties], stdout=output, stderr=output)
        while not all(answers(int(address.rpartition(":")[2])) for address in (self.sasl, self.tls)):
            assert self.process.poll() is None, (self.folder / "broker.out").read_text()[-3000:]
            time.sleep(0.1)  # what looks all the time takes the time of what it waits for

    def stop(self) -> None:
        """Ends it; it can be started again."""
        assert self.process is not None
        self._admin = None
        self.process.terminate()
        self.process.wait(60)

    def options_of_certificate(self, name: str) -> dict[str, str]:
        """librdkafka's options of the client that a certificate names."""
        return {
            "security.protocol": "SSL",
            "ssl.ca.location": str(self.certificates.ca),
            "ssl.certificate.location": str(self.certificates.folder / f"{name}.pem"),
            "ssl.key.location": str(self.certificates.folder / f"{name}-key.pem"),
        }

    def add_account(self, name: str) -> dict[str, str]:
        """A SCRAM account with a password of its own; gives librdkafka's options for it."""
        password = secrets.token_urlsafe(16)
        self.set_password(name, password)
        return {
            "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": name,
            "sasl.password": password, "ssl.ca.location": str(self.certificates.ca),
        }  # fmt: skip

    def set_password(self, name: str, password: str) -> None:
        """Makes the account, or changes its password."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(name, info, password.encode())
        for future in self.admin().alter_user_scram_credentials([change]).values():
            future.result(30)

    def options_of_token(self, name: str) -> dict[str, str]:
        """librdkafka's options of a client that asks the token endpoint who it is."""
        return {
            "security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": name, "sasl.oauthbearer.client.secret": self.tokens.add_client(name),
            "sasl.oauthbearer.token.endpoint.url": self.tokens.token_url, "sasl.oauthbearer.scope": "kafka",
            "ssl.ca.location": str(self.certificates.ca),
        }  # fmt: skip

    def settings(self, home: Path, options: dict[str, str], **others: Any) -> Settings:
        """Settings of a platform that logs in by these options."""
        servers = self.sasl if options["security.protocol"] == "SASL_SSL" else self.tls
        return Settings.model_validate(
            {"home": home, "KAFKA_BOOTSTRAP_SERVERS": servers, "kafka_config": json.dumps(options), **others}
        )

    @contextmanager
    def administrator(self) -> Iterator[KafkaResource]:
        """The platform's own client with all rights."""
        settings = self.settings(self.folder / "unused", self.options_of_certificate(ADMIN))
        with KafkaResource.from_settings(settings) as kafka:
            yield kafka

    def admin(self) -> AdminClient:
        """An administrator's client."""
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.tls, **self.options_of_certificate(ADMIN)})
        return self._admin

    def ensure_topic(self, name: str, partitions: int = 1) -> None:
        """Makes the topic unless it is there."""
        if name not in self.admin().list_topics(timeout=30).topics:
            self.admin().create_topics([NewTopic(name, partitions, 1)])[name].result(30)

    def grant(self, *rights: Right) -> None:
        """Gives rights; asked for anew they stay."""
        for future in self.admin().create_acls([right.binding() for right in rights]).values():
            future.result(30)
        self._wait_until(rights, granted=True)

    def revoke(self, *rights: Right) -> None:
        """Takes rights away."""
        for future in self.admin().delete_acls([right.binding(AclBindingFilter) for right in rights]).values():
            assert len(future.result(30)) == 1
        self._wait_until(rights, granted=False)

    def _wait_until(self, rights: Sequence[Right], *, granted: bool) -> None:
        """A controller has acknowledged the change; the broker, which answers here, hears of it a moment later."""
        for right in rights:
            while bool(self.admin().describe_acls(right.binding(AclBindingFilter)).result(30)) != granted:
                time.sleep(0.02)

    def renew_certificate(
        self, until: datetime | None = None, *, host: str = "127.0.0.1", by: Certificates | None = None
    ) -> None:
        """Gives the running broker's clients another certificate to see: Kafka takes a file of another name at once.

        It is of another host, or by another authority, where these are named.
        """
        file = f"{BROKER}-{secrets.token_hex(4)}"
        both = (by or self.certificates).issue(BROKER, host, until=until, file=file)
        entry = ConfigEntry(
            "listener.name.sasl.ssl.keystore.location", str(both), incremental_operation=AlterConfigOpType.SET
        )
        resource = ConfigResource(ResourceType.BROKER, "1", incremental_configs=[entry])
        for future in self.admin().incremental_alter_configs([resource]).values():
            future.result(30)

    def _properties(self, controller: int) -> dict[str, str]:
        _, _, sasl_port = self.sasl.rpartition(":")
        properties = server_properties(self.folder, int(sasl_port), controller, 1 << 30)
        listeners = f"SASL://{self.sasl},TLS://{self.tls}"
        keys = str(self.certificates.folder / f"{BROKER}-both.pem")
        stores = {
            "ssl.keystore.type": "PEM", "ssl.keystore.location": keys,
            "ssl.truststore.type": "PEM", "ssl.truststore.location": str(self.certificates.ca),
        }  # fmt: skip
        sasl = "listener.name.sasl"
        module = f"{_LOGIN}.scram.ScramLoginModule required;"
        return properties | stores | {f"{sasl}.{key}": value for key, value in stores.items()} | {
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": listeners,
            "listener.security.protocol.map": "SASL:SASL_SSL,TLS:SSL,CONTROLLER:SSL",
            "inter.broker.listener.name": "TLS",
            "ssl.client.auth": "required",
            # A certificate of another host is refused by the broker itself otherwise, while it runs.
            "ssl.allow.dn.changes": "true", "ssl.allow.san.changes": "true",
            f"{sasl}.ssl.client.auth": "requested",
            "ssl.principal.mapping.rules": "RULE:.*CN=([^,]+).*/$1/",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{BROKER};User:{ADMIN}",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
            f"{sasl}.sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
            f"{sasl}.scram-sha-512.sasl.jaas.config": module,
            f"{sasl}.oauthbearer.sasl.jaas.config": f"{_LOGIN}.oauthbearer.OAuthBearerLoginModule required;",
            f"{sasl}.oauthbearer.sasl.server.callback.handler.class": (
                f"{_LOGIN}.oauthbearer.OAuthBearerValidatorCallbackHandler"
            ),
            "sasl.oauthbearer.jwks.endpoint.url": self.tokens.jwks_url,
            "sasl.oauthbearer.expected.audience": "kafka",
        }  # fmt: skip


@dataclass(frozen=True)
class Right:
    """A right of an account, as Kafka's ACLs have it."""

    account: str
    operation: AclOperation
    resource: ResourceType
    name: str

    def binding(self, kind: type[AclBinding] = AclBinding) -> Any:
        """Gives it as the admin client takes it: to create, or as a filter to delete."""
        return kind(
            self.resource, self.name, ResourcePatternType.LITERAL, f"User:{self.account}", "*", self.operation,
            AclPermissionType.ALLOW,
        )  # fmt: skip


def topic_rights(account: str, topic: str, *operations: str) -> Sequence[Right]:
    """Rights on one topic: READ, WRITE, DESCRIBE, DESCRIBE_CONFIGS."""
    return [Right(account, AclOperation[operation], ResourceType.TOPIC, topic) for operation in operations]
