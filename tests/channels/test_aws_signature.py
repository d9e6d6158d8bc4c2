"""Our signature of a request is botocore's own, to the letter."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from channels.aws_signature import AwsSigner


@pytest.mark.parametrize("token", [None, "a-session-token"])
@pytest.mark.parametrize("body", [b"", b'{"a": 1}'])
@pytest.mark.parametrize(
    "base_url",
    ["https://email.eu-central-1.amazonaws.com", "http://127.0.0.1:4566", "https://vpce.example.com:443/ses~a/b c"],
)
def test_it_is_what_botocore_signs(base_url: str, body: bytes, token: str | None):
    credentials = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token)
    path = "/v2/email/outbound-emails"
    given = {"Content-Type": "application/json"} if body else {}
    theirs = AWSRequest(method="POST", url=base_url + path, data=body or None, headers=given)
    SigV4Auth(credentials, "ses", "eu-central-1").add_auth(theirs)  # at its own time: it has no argument for that
    now = datetime.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    ours = AwsSigner(credentials, "ses", "eu-central-1", base_url).headers("POST", path, body, now)
    assert ours == {name.lower(): value for name, value in theirs.headers.items()}


def test_what_is_remembered_of_one_day_signs_no_other():
    credentials = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")

    def signer() -> AwsSigner:
        return AwsSigner(credentials, "ses", "eu-central-1", "https://email.eu-central-1.amazonaws.com")

    kept = signer()
    days = [1_700_000_000 + day * 86_400 for day in (0, 0, 1, 0, 2, 1)]
    made = [kept.headers("POST", "/v2/email/outbound-emails", b"{}", at) for at in days]
    assert made == [signer().headers("POST", "/v2/email/outbound-emails", b"{}", at) for at in days]
    assert len({one["authorization"] for one in made}) == 3
