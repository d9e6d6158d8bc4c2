"""Takes the request schemas out of the packages in which providers publish them: `README.md` says which.

    python extract.py FOLDER      with the packages unpacked in FOLDER; writes the JSON files beside this one

Words for people are left out, and objects are closed: a name that the provider does not list is a fault.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
_FOR_PEOPLE = frozenset({"description", "title", "default", "examples", "example", "deprecated", "readOnly", "$schema"})
_SNAKE = re.compile(r"[A-Z]")
_DISCORD = """
import { z } from "zod";
import { IncomingWebhookRequestPartialSchema as wanted } from "discord-api-spec/zod";
const options = { io: "input", unrepresentable: "any" };
console.log(JSON.stringify(z.toJSONSchema(wanted, options)));
"""


def fcm(folder: Path) -> Any:
    """Read Google's discovery document: every schema that a send can reach.

    Its fields are protobuf's, whose JSON is read under either name: `collapseKey` and `collapse_key`.
    """
    path = folder / "googleapiclient/discovery_cache/documents/fcm.v1.json"
    schemas = json.loads(path.read_text())["schemas"]
    wanted, found = ["SendMessageRequest"], {}
    while wanted:
        name = wanted.pop()
        found[name] = {key: value for key, value in schemas[name].items() if key != "id"}
        text = json.dumps(found[name])
        own = found[name].get("properties", {})
        found[name]["properties"] = own | {_SNAKE.sub(r"_\g<0>", key).lower(): value for key, value in own.items()}
        wanted += [other for other in schemas if f'"$ref": "{other}"' in text and other not in found]
    text = json.dumps({"$ref": "SendMessageRequest", "$defs": found})
    return json.loads(text.replace('"$ref": "', '"$ref": "#/$defs/'))


def twilio(folder: Path) -> Any:
    """Read Twilio's OpenAPI document: the form that creates a message."""
    spec = json.loads((folder / "package/twilio-oai/spec/json/twilio_api_v2010.json").read_text())
    post = spec["paths"]["/2010-04-01/Accounts/{AccountSid}/Messages.json"]["post"]
    schema = post["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
    return {**schema, "components": {"schemas": _reached(schema, spec["components"]["schemas"])}}


def _reached(schema: Any, known: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in known.items() if f'"#/components/schemas/{name}"' in json.dumps(schema)}


def postmark(_: Path) -> Any:
    """Ask Postmark's own Python package."""
    return importlib.import_module("postmark.models.outbound.schemas").Email.model_json_schema(by_alias=True)


def resend(_: Path) -> Any:
    """Ask Resend's own Python package."""
    import pydantic  # noqa: PLC0415 - beside the packages under FOLDER

    return pydantic.TypeAdapter(importlib.import_module("resend").Emails.SendParams).json_schema()


def brevo(_: Path) -> Any:
    """Ask Brevo's own Python package, which is generated from Brevo's API definition."""
    import pydantic  # noqa: PLC0415 - beside the packages under FOLDER

    client = importlib.import_module("brevo.transactional_emails.raw_client")
    hints = dict(client.RawTransactionalEmailsClient.send_transac_email.__annotations__)
    hints = {name: type_ for name, type_ in hints.items() if name not in {"request_options", "return"}}
    fields = {_camel(name): (type_, None) for name, type_ in hints.items()}
    return pydantic.create_model("SendTransacEmail", **fields).model_json_schema(by_alias=True)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


def telegram(_: Path) -> Any:
    """Ask aiogram, which is generated from the Bot API's page."""
    return importlib.import_module("aiogram.methods").SendMessage.model_json_schema()


def teams(_: Path) -> Any:
    """Ask Microsoft's own Python package for the card, and for the elements of which we make one.

    The package knows of an element only that it is one; which, it leaves to the program that makes the card.
    """
    core = importlib.import_module("microsoft_teams.cards.core")
    parts = {"body": (core.TextBlock, core.Image), "actions": (core.OpenUrlAction,)}
    schema = core.AdaptiveCard.model_json_schema(by_alias=True, mode="serialization")
    for name, kinds in parts.items():
        made = [kind.model_json_schema(by_alias=True, mode="serialization") for kind in kinds]
        for one in made:
            schema["$defs"] |= one.pop("$defs", {})
            one["required"] = ["type"]
        schema["properties"][name] = {"type": "array", "items": {"anyOf": made}}
    attachment = {"contentType": {"const": "application/vnd.microsoft.card.adaptive"}, "contentUrl": {"type": "null"}}
    attachments = {"type": "array", "items": {"properties": attachment | {"content": {"$ref": "#/$defs/AdaptiveCard"}}}}
    known = schema.pop("$defs")
    known["AdaptiveCard"] = schema
    # Two names that the package writes otherwise than Microsoft's pages on cards do.
    schema["properties"]["$schema"] = schema["properties"].pop("schema")
    known["TeamsCardProperties"]["properties"]["width"] = {"enum": ["Full", "full"]}
    return {"properties": {"type": {"const": "message"}, "attachments": attachments}, "$defs": known}


def discord(folder: Path) -> Any:
    """Ask the schemas that are generated from Discord's OpenAPI document, with Node."""
    command = ["node", "--input-type=module", "-e", _DISCORD]
    return json.loads(subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout)


def closed(schema: Any, *, names: bool = False) -> Any:
    """Leave out what is for people and close every object; `names` tells that the keys are names of fields."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        key: closed(value, names=not names and key in {"properties", "$defs", "schemas"})
        for key, value in schema.items()
        if names or key not in _FOR_PEOPLE
    }
    if not names and "properties" in found:
        found["additionalProperties"] = False
    return found


def main() -> None:
    """Write the files."""
    folder = Path(sys.argv[1])
    sys.path.insert(0, str(folder))
    for read in (fcm, twilio, postmark, resend, brevo, telegram, teams, discord):
        text = json.dumps(closed(read(folder)), sort_keys=True, separators=(",", ":"))
        (HERE / f"{read.__name__}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
