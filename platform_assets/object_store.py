"""One place that turns the settings of an object store into what each library wants to be told.

A lakehouse in S3 is `s3://bucket/prefix` for all of them: delta-rs and Arrow, through which DuckDB reads, know that
scheme, and Hadoop is told to open it by S3A. `HEADRACE_STORAGE_OPTIONS` has delta-rs's names; what is not there is
looked for in the environment (`AWS_ENDPOINT_URL` and the like), where delta-rs looks for it too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_S3 = re.compile(r"s3a?://")
# delta-rs decodes a percent sign and Hadoop does not; an empty part is a folder to the one and nothing to the other.
_S3_ROOT = re.compile(r"s3a?://[a-z0-9][a-z0-9.-]+(/[\w.=-]+)*/?", re.ASCII)
# By these a commit would be a rename, or a lock that other writers do not hold: one of two commits could be lost.
_UNSAFE = ("s3_locking_provider", "s3_allow_unsafe_rename")
_ENDPOINT = ("endpoint", "endpoint_url", "endpoint_url_s3")
# By default Arrow gives up after one second and three: on a busy machine an answer takes longer. It tries three times.
_CONNECT_SECONDS = 5.0
_SILENCE_SECONDS = 10.0
_ACCOUNT = ("access_key_id", "secret_access_key", "session_token", "token")
_PLACE_AND_ACCOUNT = frozenset(
    (*_ENDPOINT, *_ACCOUNT, "region", "default_region", "allow_http", "virtual_hosted_style_request")
)
_CONDITIONAL_PUT = "aws_conditional_put"
_AZURE_HOST = re.compile(r"abfss?://[^@/]+@([\w.-]+)")


def is_s3(root: str) -> bool:
    """Whether a lakehouse's root is in S3, in either spelling."""
    return _S3.match(root) is not None


def is_uri(root: str) -> bool:
    """Whether a lakehouse's root is a URI of a store, and no path of a file system that is mounted here."""
    return "://" in root and not root.startswith("file:")


def normalize_uri(uri: str) -> str:
    """One spelling for each place: `s3://` for Hadoop's `s3a://` too, and no slash at the end."""
    return re.sub(r"^s3a://", "s3://", uri).rstrip("/")


def find_trouble(root: str, options: Mapping[str, str]) -> str:
    """What is wrong with a root in an object store, or with the options for it; empty when nothing is."""
    if is_s3(root) and not _S3_ROOT.fullmatch(root):
        return "must be s3://bucket/prefix with letters, digits and . _ - = in its parts: of others libraries disagree"
    variables = {name: value for name, value in os.environ.items() if name.startswith("AWS_")} if is_s3(root) else {}
    for name, value in (*options.items(), *variables.items()):
        is_other_put = _plain(name) == "conditional_put" and value.lower() != "etag"
        if is_other_put or _plain(name) in _UNSAFE:
            return f"every commit is a conditional put, else one of two could be lost: take out the option {name}"
    return ""


def find_trouble_of_a_place(place: str, options: Mapping[str, str]) -> str:
    """What is wrong with a place, a path or URI, without the place; empty when nothing is.

    Runs, their messages, lineage and those who look at them have it: it must hold no log-in.
    """
    if "://" not in place:
        return ""
    try:
        has_log_in = "?" in place or urlsplit(place).password is not None
    except ValueError:
        return "cannot be read as an address such as s3://bucket/prefix"
    if has_log_in:
        return "must have no password and no query: keys belong in HEADRACE_STORAGE_OPTIONS"
    return find_trouble(place, options)


def delta_options(root: str, options: Mapping[str, str]) -> dict[str, str]:
    """The options for delta-rs. They are what `arrow_options` takes too. May hold secrets: never log them."""
    found = dict(options)
    if not is_s3(root):
        return found
    names = {_plain(name) for name in options}
    if "conditional_put" not in names:
        found[_CONDITIONAL_PUT] = "etag"
    endpoint = _find(options, *_ENDPOINT)
    if endpoint.startswith("http://") and "allow_http" not in names:
        found["aws_allow_http"] = "true"
    if endpoint and not _find(options, "region", "default_region"):
        found["aws_region"] = "us-east-1"  # else it asks Amazon's instance service, which other machines do not have
    return found


def arrow_options(options: Mapping[str, str]) -> dict[str, Any]:
    """What Arrow's `S3FileSystem` is made with. Without keys it looks where Amazon's SDK does. May hold secrets."""
    scheme, _, host = _find(options, *_ENDPOINT).rpartition("://")
    found = {
        "access_key": _find(options, "access_key_id"),
        "secret_key": _find(options, "secret_access_key"),
        "session_token": _find(options, "session_token", "token"),
        "region": _find(options, "region", "default_region"),
        "scheme": scheme,
        "endpoint_override": host.rstrip("/"),
        "force_virtual_addressing": _is_virtual_hosted(options),
    }
    return {key: value for key, value in found.items() if value} | {
        "connect_timeout": _CONNECT_SECONDS, "request_timeout": _SILENCE_SECONDS,
        # A file below its limit for parts is one request, and what is not there is found out at the first read.
        "allow_delayed_open": True,
    }  # fmt: skip


def with_variables(root: str, options: Mapping[str, str]) -> dict[str, str]:
    """The options, and what is not among them but in this machine's environment: other machines do not have that.

    May hold secrets: never log it.
    """
    if not is_s3(root):
        return dict(options)
    names = {_plain(name) for name in options}
    found = dict(options)
    for group in (_ENDPOINT, _ACCOUNT, ("region", "default_region")):
        if names.isdisjoint(group):  # half an account, or two endpoints, would be of no use to anybody
            variables = {f"aws_{name}": os.environ.get(f"AWS_{name.upper()}") for name in group}
            found |= {name: value for name, value in variables.items() if value}
    return found


def polars_options(options: Mapping[str, str]) -> dict[str, str]:
    """What Polars reads with: the account and the place, under delta-rs's names. May hold secrets.

    The others stay behind: it wants numbers for some of them where delta-rs has texts.
    """
    return {
        name: value
        for name, value in options.items()
        if _plain(name) in _PLACE_AND_ACCOUNT or name.lower().startswith(("google_", "azure_"))
    }


def hadoop_conf(root: str, options: Mapping[str, str]) -> dict[str, str]:
    """Spark's configuration for the root; nothing for a local one. May hold secrets: never log it."""
    if is_s3(root):
        return _s3a_conf(options)
    if root.startswith("gs://"):
        return _google_conf(options)
    azure = _AZURE_HOST.match(root)
    return _azure_conf(azure[1], options) if azure else {}


def _s3a_conf(options: Mapping[str, str]) -> dict[str, str]:
    s3a, endpoint = "spark.hadoop.fs.s3a", _find(options, *_ENDPOINT)
    conf = {
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "spark.hadoop.fs.AbstractFileSystem.s3.impl": "org.apache.hadoop.fs.s3a.S3A",
        # A checkpoint's file is one request, whole or not there. By default it would be written under another name and
        # renamed, which S3 cannot: a copy and a deletion, with each of three files a micro-batch.
        "spark.sql.streaming.checkpointFileManagerClass": (
            "org.apache.spark.internal.io.cloud.AbortableStreamBasedCheckpointFileManager"
        ),
        # The default stream reads whole files ahead, by a library whose own dependencies are not here.
        f"{s3a}.input.stream.type": "classic",
    }
    if endpoint:
        is_path_style = not _is_virtual_hosted(options)
        conf |= {f"{s3a}.endpoint": endpoint, f"{s3a}.path.style.access": str(is_path_style).lower()}
    if region := _find(options, "region", "default_region") or ("us-east-1" if endpoint else ""):
        conf[f"{s3a}.endpoint.region"] = region
    return conf | _s3a_credentials(options)


def _s3a_credentials(options: Mapping[str, str]) -> dict[str, str]:
    """The options' keys; without any S3A looks where Amazon's SDK does: the environment, then the machine's role."""
    names = {
        "access.key": ("access_key_id",), "secret.key": ("secret_access_key",),
        "session.token": ("session_token", "token"),
    }  # fmt: skip
    found = {key: value for key, spelled in names.items() if (value := _find(options, *spelled, environment={}))}
    if not found:
        return {}
    kind = "Temporary" if "session.token" in found else "Simple"
    provider = {"aws.credentials.provider": f"org.apache.hadoop.fs.s3a.{kind}AWSCredentialsProvider"}
    return {f"spark.hadoop.fs.s3a.{key}": value for key, value in {**found, **provider}.items()}


def _google_conf(options: Mapping[str, str]) -> dict[str, str]:
    path = _find(options, "google_service_account", "service_account", "google_application_credentials")
    auth = {
        "auth.type": "SERVICE_ACCOUNT_JSON_KEYFILE",
        "auth.service.account.json.keyfile": path,
    }
    return {
        "spark.hadoop.fs.gs.impl": "com.google.cloud.hadoop.fs.gcs.GoogleHadoopFileSystem",
        "spark.hadoop.fs.AbstractFileSystem.gs.impl": "com.google.cloud.hadoop.fs.gcs.GoogleHadoopFS",
    } | ({f"spark.hadoop.fs.gs.{key}": value for key, value in auth.items()} if path else {})


def _azure_conf(host: str, options: Mapping[str, str]) -> dict[str, str]:
    key = _find(options, "azure_storage_account_key", "account_key", "azure_storage_access_key", "access_key")
    return {f"spark.hadoop.fs.azure.account.key.{host}": key} if key else {}


def _is_virtual_hosted(options: Mapping[str, str]) -> bool:
    return _find(options, "virtual_hosted_style_request").lower() == "true"


def _find(options: Mapping[str, str], *names: str, environment: Mapping[str, str] | None = None) -> str:
    """The first of these options, else of the variables AWS_...; empty when there is none."""
    found = {_plain(name): value for name, value in options.items()}
    variables = os.environ if environment is None else environment
    return next(
        (value for name in names if (value := found.get(_plain(name)) or variables.get(f"AWS_{name.upper()}"))), ""
    )


def _plain(name: str) -> str:
    """The name as delta-rs takes it too: without case and without its `aws_`."""
    return name.lower().removeprefix("aws_")
