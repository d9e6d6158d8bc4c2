"""One vocabulary: every word of Anymail's has its place, and every event a provider documents is sorted or left out."""

from __future__ import annotations

import pytest

from channels import email_brevo, email_mailgun, email_postmark, email_resend, email_sendgrid
from channels.contract import EventType, Reason
from channels.mail_events import AMAZON_SOFT, EVENTS, REASONS, meaning

# https://anymail.dev/en/stable/sending/tracking/, without what is said of no delivery.
ANYMAIL_EVENTS = (
    "queued sent rejected failed bounced deferred delivered opened clicked complained unsubscribed subscribed"
)
ANYMAIL_REASONS = "invalid bounced timed_out blocked spam unsubscribed other"


def test_every_word_of_anymails_has_its_place():
    assert set(ANYMAIL_EVENTS.split()) == set(EVENTS)
    assert set(ANYMAIL_REASONS.split()) < set(REASONS)


def test_only_one_word_means_that_an_address_is_dead():
    assert [word for word, reason in REASONS.items() if reason is Reason.ADDRESS_DEAD] == ["bounced"]
    assert Reason.ADDRESS_DEAD not in AMAZON_SOFT.values()


def test_a_meaning_is_made_of_known_words():
    assert meaning("bounced", "blocked") == (EventType.BOUNCED, Reason.POLICY)
    assert meaning("opened") == (EventType.OPENED, None)
    for words in (("arrived", "other"), ("bounced", "gone")):
        with pytest.raises(KeyError):
            meaning(*words)


@pytest.mark.parametrize(
    ("table", "documented"),
    [
        (
            email_sendgrid._KINDS,
            (
                "processed dropped deferred bounce delivered open click spamreport unsubscribe group_unsubscribe "
                "group_resubscribe account_status_change"
            ),
        ),
        (
            email_mailgun._KINDS,
            (
                "accepted rejected delivered failed opened clicked unsubscribed complained stored "
                "list_member_uploaded list_member_upload_error list_uploaded"
            ),
        ),
        (email_postmark._RECORDS, "Delivery Open Click SpamComplaint Inbound"),
        (
            email_postmark._BOUNCES,
            (
                "HardBounce Transient Unsubscribe Subscribe AutoResponder AddressChange DnsError SpamNotification "
                "OpenRelayTest Unknown SoftBounce VirusNotification ChallengeVerification BadEmailAddress "
                "SpamComplaint ManuallyDeactivated Unconfirmed Blocked SMTPApiError InboundError DMARCPolicy "
                "TemplateRenderingFailed"
            ),
        ),
        (email_postmark._SUPPRESSIONS, "HardBounce SpamComplaint ManualSuppression"),
        (
            email_resend._EVENTS,
            (
                "email.sent email.delivered email.delivery_delayed email.complained email.bounced email.opened "
                "email.clicked email.received email.failed email.scheduled email.suppressed contact.created "
                "contact.updated contact.deleted domain.created domain.updated domain.deleted"
            ),
        ),
        (
            email_brevo._EVENTS,
            (
                "request sent delivered deferred soft_bounce hard_bounce invalid_email blocked error spam unsubscribed "
                "opened unique_opened proxy_open unique_proxy_open click list_addition contact_updated contact_deleted "
                "inboundEmailProcessed"
            ),
        ),
    ],
)
def test_every_event_a_provider_documents_is_sorted_or_left_out_on_purpose(table, documented):
    assert set(documented.split()) <= set(table)
