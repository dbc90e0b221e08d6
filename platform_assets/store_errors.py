"""What libraries say of an object store that refuses or does not answer, as one error that says what to do."""

from __future__ import annotations

import re

from platform_assets.errors import HeadraceError, StorageError, StoreUnavailableError

# Words of S3 in both libraries' texts, or of the libraries themselves; a text without any is about something else.
_OF_A_STORE = re.compile(
    r"s3|object at location|awssdk|amazonaws|lacked the necessary privileges|AWS Error", re.IGNORECASE
)
_NO_BUCKET = re.compile(r"No_?Such_?Bucket|UnknownStoreException|specified bucket does not exist", re.IGNORECASE)
_REFUSED = re.compile(
    r"Invalid_?Access_?Key_?Id|Signature_?Does_?Not_?Match|Access_?Denied|ExpiredToken|403 Forbidden"
    r"|lacked the necessary privileges|Status Code: 40[13]|NoAwsCredentials"
    r"|NoAuthWithAWS|Unable to load credentials|missing valid authentication",
    re.IGNORECASE,
)
_UNANSWERED = re.compile(
    r"error sending request|HTTP error|timed out|\b5\d\d (Internal|Bad|Service|Gateway)|Server Error|Status Code: 5\d\d"
    r"|HTTP status 5\d\d"
    r"|Slow_?Down|NETWORK_CONNECTION|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|AWSServiceThrottled|AWSServiceIOException|AWSClientIOException|AWSStatus500|AWSApiCallTimeout"
    r"|Unable to execute HTTP request|Connection refused|after \d+ retries",
    re.IGNORECASE,
)


def find_store_error(root: str, text: str) -> HeadraceError | None:
    """The error for this text of a library; None where it is about something else than the object store `root`.

    A store that does not answer is transient: what was being done is done again. The text itself is left out, for it
    may hold an address with a key.
    """
    if "://" not in root or not _OF_A_STORE.search(text):
        return None
    if _NO_BUCKET.search(text):
        bucket = root.partition("://")[2].partition("/")[0]
        return StorageError(f"There is no bucket {bucket}. Create it, or set HEADRACE_LAKEHOUSE to another one.")
    if _REFUSED.search(text):
        return StorageError(
            f"{root} refuses the account. Check aws_access_key_id, aws_secret_access_key and their rights in "
            "HEADRACE_STORAGE_OPTIONS, or the AWS_... variables: it must list, read, write and delete there."
        )
    if _UNANSWERED.search(text):
        return StoreUnavailableError(
            f"The object store of {root} does not answer. Nothing is lost, and streams go on by themselves when it is "
            "back: check aws_endpoint_url in HEADRACE_STORAGE_OPTIONS and the store's own log."
        )
    return None
