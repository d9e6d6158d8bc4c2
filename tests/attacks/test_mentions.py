"""Words from data that a chat would take for a call to everybody, or for a link that leads elsewhere than it says."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest

from channels.testing_server import HttpServer, Received, Reply
from tests.support.gateway import RunningGateway, running_gateway

EVIL = "https://evil.example/login"
CALLS = [
    "<!channel>", "<!here>", "<!everyone>", "<!subteam^S012AB3CD>", "<@U012AB3CD>", "<#C012AB3CD>",
    "@everyone", "@here", "@channel", "<@123456789012345678>", "<@&123456789012345678>",
    "<at>everyone</at>", "<at id='1'>General</at>", "<!date^1392734382^{date}|x>",
    "tg://user?id=1", '<a href="tg://user?id=1">x</a>', "<tg-spoiler>x</tg-spoiler>",
]  # fmt: skip
MASKED = [
    f"<{EVIL}|https://bank.example>", f"[https://bank.example]({EVIL})", f"[bank]({EVIL} 'https://bank.example')",
    f"[bank][1]\n\n[1]: {EVIL}", f'<a href="{EVIL}">https://bank.example</a>', f"![bank]({EVIL})",
    f"[bank](<{EVIL}>)", f"\\[bank\\]({EVIL})",
]  # fmt: skip
PATHS = {"slack": "/api/chat.postMessage", "discord": "/discord", "teams": "/teams", "telegram": "/bot1:a/sendMessage"}
TAKEN = {
    "slack": Reply(200, json={"ok": True, "channel": "C7", "ts": "1.2"}),
    "discord": Reply(200, json={"id": "1", "channel_id": "7"}),
    "teams": Reply(202),
    "telegram": Reply(200, json={"ok": True, "result": {"message_id": 7, "chat": {"id": -100}}}),
}


def _answer(asked: Received) -> Reply:
    return next(TAKEN[name] for name, path in PATHS.items() if asked.target.startswith(path))


def _config(folder: Path, url: str) -> dict[str, Any]:
    templates = folder / "t"
    for path, text in {
        "said/template.toml": "[variables.x]\n",
        "said/en/title.txt": "News {{ x }}",
        "said/en/body.md": "Somebody said: {{ x }}\n\n- {{ x }}\n\n**{{ x }}**",
    }.items():
        (templates / path).parent.mkdir(parents=True, exist_ok=True)
        (templates / path).write_text(text)
    providers: dict[str, Any] = {
        "slack": {"use": "chat_slack", "token": "xoxb-1", "base_url": f"{url}/api/"},
        "discord": {"use": "chat_discord", "webhook_origins": [url]},
        "teams": {"use": "chat_teams", "webhook_origins": [url]},
        "telegram": {"use": "chat_telegram", "token": "1:a", "base_url": url},
    }
    for provider in providers.values():
        provider["rate"] = "1000/s"
    return {
        "environment": "production",
        "providers": providers,
        "channels": {name: {"providers": [name]} for name in providers},
        "templates": {"folder": str(templates)},
    }


async def _said(gw: RunningGateway, server: HttpServer, word: str) -> dict[str, Any]:
    """Send a word from data to every chat; answers the JSON that each got."""
    before = len(server.requests)
    to = {"slack": "C7", "discord": f"{server.url}/discord", "teams": f"{server.url}/teams", "telegram": "-100"}
    sent = await gw.send(to, channels=list(to), strategy="all", template="said", data={"x": word})
    done = await gw.all_final(sent["id"])
    assert {one["status"] for one in done["deliveries"]} == {"sent"}, done
    asked = server.requests[before:]
    return {name: next(one.json() for one in asked if one.target.startswith(path)) for name, path in PATHS.items()}


def _texts(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for item in value.values() for text in _texts(item)]
        case list():
            return [text for item in value for text in _texts(item)]
        case _:
            return []


def _mrkdwn(slack: dict[str, Any]) -> list[str]:
    """List the texts in which Slack gives <…> a meaning: mrkdwn and the fallback, not plain_text."""
    shown = [text for block in slack.get("blocks", []) for text in [block.get("text"), *block.get("fields", [])]]
    return [slack.get("text", ""), *(text["text"] for text in shown if text and text["type"] == "mrkdwn")]


def _calls_in(bodies: dict[str, Any]) -> list[str]:
    """Judge what each chat would read as a call, by what its documentation says."""
    found: list[str] = []
    found += [call for text in _mrkdwn(bodies["slack"]) for call in re.findall(r"<[!@#][^>]*>", text)]
    # Discord: what may be mentioned is said beside the text.
    if bodies["discord"].get("allowed_mentions") != {"parse": []}:
        found.append("discord would mention")
    # Teams: a card mentions only those whom its entities name.
    found += ["teams entities" for text in [str(bodies["teams"])] if "'entities'" in text or "mentioned" in text]
    # Telegram: the only elements are those of our own markup.
    tags = re.findall(r"</?([a-z-]+)", bodies["telegram"]["text"])
    return found + [tag for tag in tags if tag not in {"b", "i", "a", "code", "pre", "s", "u", "blockquote"}]


def _masks_in(bodies: dict[str, Any]) -> list[str]:
    """Find links to the evil address that show something else."""
    found: list[str] = re.findall(rf"<{EVIL}[^>]*\|[^>]*>", " ".join(_mrkdwn(bodies["slack"])))
    for name in ("discord", "teams"):
        for text in _texts(bodies[name]):
            # A bracket behind an even number of backslashes opens a link; behind an odd number it is a bracket.
            found += [f"{name}: {text}" for _ in re.findall(rf"(?<!\\)(?:\\\\)*\[[^\]]*\](?:\(\s*<?|:\s*){EVIL}", text)]
    links = re.findall(r'<a href="([^"]*)">(.*?)</a>', bodies["telegram"]["text"])
    found += [f"telegram: {shown}" for url, shown in links if "evil" in html.unescape(url) and "evil" not in shown]
    urls = [one.get("url") for text in [bodies["teams"]] for one in text.get("actions", []) if isinstance(one, dict)]
    return found + [url for url in urls if url and "evil" in url]


@pytest.mark.parametrize("judge", [_calls_in, _masks_in])
async def test_no_word_from_data_calls_anybody_or_hides_where_a_link_leads(tmp_path: Path, judge: Any):
    async with HttpServer(_answer) as server, running_gateway(tmp_path, _config(tmp_path, server.url)) as gw:
        for word in CALLS if judge is _calls_in else MASKED:
            bodies = await _said(gw, server, word)
            assert judge(bodies) == [], (word, bodies)
            for name, body in bodies.items():
                assert any("Somebody said" in text for text in _texts(body)), name


def test_the_judges_would_notice():
    bad: dict[str, Any] = {
        "slack": {"text": f"<!channel> <{EVIL}|bank>"},
        "discord": {"content": f"@everyone [bank]({EVIL})"},
        "teams": {"entities": [], "text": f"[bank]({EVIL})"},
        "telegram": {"text": f'<tg-spoiler><a href="{EVIL}">bank</a></tg-spoiler>'},
    }
    assert len(_calls_in(bad)) == 5
    assert len(_masks_in(bad)) == 4
