"""Mail that came back, written after the shapes that Postfix, Exim, Exchange, Gmail and qmail give it.

`{id}` is the returned Message-ID's, `{to}` the recipient's; nothing else varies.
"""

from __future__ import annotations

from typing import Final

DELIVERY = "dlv_0192f0c1a2b37abc8def0123456789ab"
TO = "ada@example.com"


def crlf(text: str, **changes: str) -> bytes:
    """Write a sample as it arrives; a change replaces a piece of it and must find it."""
    text = text.replace("{id}", f"<{DELIVERY}@shop.example.com>").replace("{to}", TO)
    for before, after in changes.items():
        if before not in text:
            raise AssertionError(f"{before} is not in the sample")
        text = text.replace(before, after)
    return text.lstrip("\n").replace("\n", "\r\n").encode()


POSTFIX: Final = """
Return-Path: <>
Received: by mx.shop.example.com (Postfix) id 4F2A1; Tue, 3 Feb 2026 10:15:02 +0100 (CET)
Date: Tue, 3 Feb 2026 10:15:02 +0100 (CET)
From: MAILER-DAEMON@mx.shop.example.com (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: bounces@shop.example.com
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
	boundary="8C1D3.1770110102/mx.shop.example.com"
Message-Id: <20260203091502.4F2A1@mx.shop.example.com>

This is a MIME-encapsulated message.

--8C1D3.1770110102/mx.shop.example.com
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.shop.example.com.

I'm sorry to have to inform you that your message could not
be delivered to one or more recipients.

<{to}>: host mx.example.com[192.0.2.7] said: 550 5.1.1 <{to}>: Recipient
    address rejected: User unknown (in reply to RCPT TO command)

--8C1D3.1770110102/mx.shop.example.com
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.shop.example.com
X-Postfix-Queue-ID: 8C1D3
X-Postfix-Sender: rfc822; bounces@shop.example.com
Arrival-Date: Tue,  3 Feb 2026 10:15:01 +0100 (CET)

Final-Recipient: rfc822; {to}
Original-Recipient: rfc822;{to}
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.com
Diagnostic-Code: smtp; 550 5.1.1 <{to}>: Recipient address rejected: User
    unknown

--8C1D3.1770110102/mx.shop.example.com
Content-Description: Undelivered Message Headers
Content-Type: text/rfc822-headers

Return-Path: <bounces@shop.example.com>
Date: Tue, 03 Feb 2026 09:15:00 +0000
Message-ID: {id}
From: Shop <no-reply@shop.example.com>
To: Ada <{to}>
Subject: Your order

--8C1D3.1770110102/mx.shop.example.com--
"""

EXIM: Final = """
Return-path: <>
X-Failed-Recipients: {to}
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@mail.shop.example.com>
To: bounces@shop.example.com
References: {id}
Content-Type: multipart/report; report-type=delivery-status; boundary=1770110102-eximdsn-1804289383
MIME-Version: 1.0
Subject: Mail delivery failed: returning message to sender
Message-Id: <E1vnAbC-0001xY-2z@mail.shop.example.com>
Date: Tue, 03 Feb 2026 10:15:02 +0100

--1770110102-eximdsn-1804289383
Content-type: text/plain; charset=us-ascii

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  {to}
    host mx.example.com [192.0.2.7]
    SMTP error from remote mail server after RCPT TO:<{to}>:
    550 5.1.1 No such user here

--1770110102-eximdsn-1804289383
Content-type: message/delivery-status

Reporting-MTA: dns; mail.shop.example.com

Action: failed
Final-Recipient: rfc822;{to}
Status: 5.0.0
Remote-MTA: dns; mx.example.com
Diagnostic-Code: smtp; 550 5.1.1 No such user here

--1770110102-eximdsn-1804289383
Content-type: message/rfc822

Return-path: <bounces@shop.example.com>
Message-ID: {id}
From: Shop <no-reply@shop.example.com>
To: {to}
Subject: Your order
MIME-Version: 1.0
Content-Type: text/plain

Thank you.

--1770110102-eximdsn-1804289383--
"""

EXCHANGE: Final = """
From: <postmaster@outlook.example>
To: <bounces@shop.example.com>
Date: Tue, 3 Feb 2026 09:15:03 +0000
Content-Type: multipart/report; report-type=delivery-status;
	boundary="8d7c2f7e-1f0c-4f1b-a1f0-7a7b4f0f3d11"
X-MS-Exchange-Message-Is-Ndr:
Content-Language: en-GB
Message-ID: <b8a2d3c4-0000-4111-8222-333344445555@HE1PR0601.eurprd06.prod.outlook.com>
In-Reply-To: {id}
References: {id}
Subject: Undeliverable: Your order
Auto-Submitted: auto-replied
MIME-Version: 1.0

--8d7c2f7e-1f0c-4f1b-a1f0-7a7b4f0f3d11
Content-Type: multipart/alternative; differences=Content-Type;
	boundary="0f0e0d0c-inner"

--0f0e0d0c-inner
Content-Type: text/plain; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

Your message to {to} couldn't be delivered.

--0f0e0d0c-inner
Content-Type: text/html; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

<html><body>Your message couldn't be delivered.</body></html>

--0f0e0d0c-inner--

--8d7c2f7e-1f0c-4f1b-a1f0-7a7b4f0f3d11
Content-Type: message/delivery-status

Reporting-MTA: dns;HE1PR0601.eurprd06.prod.outlook.com
Received-From-MTA: dns;mx.shop.example.com
Arrival-Date: Tue, 3 Feb 2026 09:15:02 +0000

Final-Recipient: rfc822;{to}
Action: failed
Status: 5.1.10
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient {to} not found by SMTP address lookup

--8d7c2f7e-1f0c-4f1b-a1f0-7a7b4f0f3d11
Content-Type: message/rfc822

Received: from mx.shop.example.com (192.0.2.1) by HE1PR0601
From: Shop <no-reply@shop.example.com>
To: Ada <{to}>
Subject: Your order
Message-ID: {id}
Date: Tue, 3 Feb 2026 09:15:00 +0000
Content-Type: text/plain
MIME-Version: 1.0


--8d7c2f7e-1f0c-4f1b-a1f0-7a7b4f0f3d11--
"""

GMAIL: Final = """
MIME-Version: 1.0
From: Mail Delivery Subsystem <mailer-daemon@googlemail.com>
To: bounces@shop.example.com
Auto-Submitted: auto-replied
Subject: Delivery Status Notification (Failure)
References: {id}
In-Reply-To: {id}
X-Failed-Recipients: {to}
Message-ID: <69818f86.050a0220.1.GMR@mx.google.com>
Date: Tue, 03 Feb 2026 01:15:02 -0800 (PST)
Content-Type: multipart/report; boundary="000000000000c0ffee05"; report-type=delivery-status

--000000000000c0ffee05
Content-Type: multipart/related; boundary="000000000000c0ffee06"

--000000000000c0ffee06
Content-Type: multipart/alternative; boundary="000000000000c0ffee07"

--000000000000c0ffee07
Content-Type: text/plain; charset="UTF-8"


** Address not found **

Your message wasn't delivered to {to} because the address couldn't be found, or is unable to receive mail.

--000000000000c0ffee07--

--000000000000c0ffee06--

--000000000000c0ffee05
Content-Type: message/delivery-status

Reporting-MTA: dns; googlemail.com
Received-From-MTA: dns; bounces@shop.example.com
Arrival-Date: Tue, 03 Feb 2026 01:15:01 -0800 (PST)
X-Original-Message-ID: {id}

Final-Recipient: rfc822; {to}
Action: failed
Status: 5.1.1
Remote-MTA: dns; gmail-smtp-in.l.google.com. (192.0.2.26, the server for the domain.)
Diagnostic-Code: smtp; 550-5.1.1 The email account that you tried to reach does not exist. Please try
 550-5.1.1 double-checking the recipient's email address for typos or
 550 5.1.1 unnecessary spaces. https://support.google.com/mail/?p=NoSuchUser - gsmtp
Last-Attempt-Date: Tue, 03 Feb 2026 01:15:02 -0800 (PST)

--000000000000c0ffee05
Content-Type: message/rfc822

Date: Tue, 03 Feb 2026 09:15:00 +0000
Message-ID: {id}
From: Shop <no-reply@shop.example.com>
To: {to}
Subject: Your order

----- Message truncated -----

--000000000000c0ffee05--
"""

SEVERAL: Final = """
From: MAILER-DAEMON@mx.shop.example.com
To: bounces@shop.example.com
Subject: Delivery report
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: text/plain

A report.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.shop.example.com

Final-Recipient: rfc822; ada@example.com
Action: failed
Status: 5.1.1

Final-Recipient: rfc822; bob@example.com
Action: delayed
Status: 4.4.1

Final-Recipient: rfc822; cyd@example.com
Action: delivered (to mailbox)
Status: 2.0.0

Final-Recipient: rfc822; dan@example.com
Action: relayed
Status: 2.0.0

Final-Recipient: rfc822; list@example.com
Action: expanded
Status: 2.0.0

Final-Recipient: rfc822; eve@example.com
Status: 5.2.2

Action: failed
Status: 5.1.1
--b
Content-Type: message/rfc822

Message-ID: {id}
To: ada@example.com
Cc: bob@example.com

--b--
"""

COMPLAINT: Final = """
From: <feedback@isp.example>
Date: Tue, 3 Feb 2026 12:00:00 +0000
Subject: FW: Your order
To: <abuse@shop.example.com>
Message-ID: <20260203120000.1@isp.example>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="part1_13d.2e68ed54_boundary"

--part1_13d.2e68ed54_boundary
Content-Type: text/plain; charset="US-ASCII"
Content-Transfer-Encoding: 7bit

This is an email abuse report for an email message received from IP 192.0.2.1.

--part1_13d.2e68ed54_boundary
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Mail-From: <bounces@shop.example.com>
Original-Rcpt-To: <{to}>
Source-IP: 192.0.2.1
Reported-Domain: shop.example.com

--part1_13d.2e68ed54_boundary
Content-Type: message/rfc822
Content-Disposition: inline

From: <no-reply@shop.example.com>
To: <{to}>
Subject: Your order
MIME-Version: 1.0
Content-Type: text/plain
Message-ID: {id}
Date: Tue, 3 Feb 2026 09:15:00 +0000

Thank you.
--part1_13d.2e68ed54_boundary--
"""

QMAIL: Final = """
Return-Path: <>
From: MAILER-DAEMON@mail.example.com
To: bounces@shop.example.com
Subject: failure notice
Date: 3 Feb 2026 09:15:02 -0000

Hi. This is the qmail-send program at mail.example.com.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<{to}>:
Sorry, no mailbox here by that name. (#5.1.1)

--- Below this line is a copy of the message.

Return-Path: <bounces@shop.example.com>
Received: (qmail 4711 invoked from network); 3 Feb 2026 09:15:01 -0000
Message-ID: {id}
From: Shop <no-reply@shop.example.com>
To: {to}
Subject: Your order 5.7.1

Thank you.
"""

EXIM_PLAIN: Final = """
Return-path: <>
X-Failed-Recipients: {to}
From: Mail Delivery System <Mailer-Daemon@mail.example.com>
To: bounces@shop.example.com
Subject: Mail delivery failed: returning message to sender
Date: Tue, 03 Feb 2026 10:15:02 +0100

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  {to}
    Unrouteable address

------ This is a copy of the message, including all the headers. ------

Message-ID: {id}
To: {to}
Subject: Your order 5.1.1
"""

OUT_OF_OFFICE: Final = """
From: Ada <{to}>
To: bounces@shop.example.com
Subject: Automatic reply: Your order
In-Reply-To: {id}
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: text/plain

I am away until Monday. Undeliverable 550 5.1.1 <{to}>
"""

ADVERTISING: Final = """
From: Somebody <somebody@example.net>
To: bounces@shop.example.com
Subject: Your parcel

550 5.1.1 user unknown: <{to}>
"""
