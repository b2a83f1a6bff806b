"""The description of the API (OpenAPI): the schemas of what is sent and answered."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from engine.audit.outcome import TEXT_LIMIT
from engine.evaluate import Objection
from engine.http.documents import KINDS
from engine.http.problems import MEDIA_TYPE
from engine.http.questions import MAX_BATCH, MAX_NAME, MAX_SUBJECT
from zt.decide import Reason, Verdict
from zt.model import Phase
from zt.values import MAX_PORT

Json = dict[str, Any]

JSON, NDJSON, YAML = "application/json", "application/x-ndjson", "application/yaml"

_MEANINGS = {
    400: "The request can't be read.",
    403: "The caller is not known, or may not do this.",
    404: "Nothing is there.",
    408: "The body did not arrive in time.",
    409: "The policies can't be changed in this way here.",
    412: "The policy is another by now.",
    413: "The body is larger than 1 MiB.",
    415: "The body is of a type that is not read here.",
    422: "The request is not valid.",
    428: "It does not say which version is to be changed.",
    503: "It can't be answered now.",
}


def _object(required: list[str], **properties: Json) -> Json:
    return {"type": "object", "required": required, "properties": properties}


def _closed(required: list[str], **properties: Json) -> Json:
    return _object(required, **properties) | {"additionalProperties": False}


def _list(items: Json, **others: int) -> Json:
    return {"type": "array", "items": items} | others


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _text(description: str = "", **others: object) -> Json:
    return {"type": "string"} | ({"description": description} if description else {}) | others


def _maybe(schema: Json) -> Json:
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema | {"type": [schema["type"], "null"]}


_PARTY = _text(
    "a SPIFFE ID, or external:<name>", maxLength=TEXT_LIMIT, pattern="^(spiffe://|external:)"
)
_PORT: Json = {"type": "integer", "minimum": 1, "maximum": MAX_PORT}
_COUNT: Json = {"type": "integer", "minimum": 0}
_VERDICT: Json = {"enum": [*Verdict]}
_TIME = _text(format="date-time")
_NAME = _maybe(_text(minLength=1, maxLength=MAX_NAME))
_SUBJECT = _text(minLength=1, maxLength=MAX_SUBJECT)
_ANSWER: Json = {
    "decision": {"enum": [*Verdict], "description": "what holds now"},
    "wouldBe": {"enum": [*Verdict], "description": "what will, once the destination is enforced"},
    "rule": _text("the rule that grants it, or 'default'"),
    "reason": {"enum": [*Reason, *Objection]},
    "phase": {"enum": [*Phase]},
    "revision": _text("of the policy"),
}
_QUESTION = _closed(
    ["source", "destination", "port"],
    source=_PARTY,
    destination=_PARTY,
    port=_PORT,
    pod=_NAME | {"description": "the source's pod, for the record"},
    node=_NAME | {"description": "the source's node, for the record"},
    operator=_maybe(_closed(["subject"], subject=_SUBJECT)),
    agent=_maybe(_closed(["clientId"], clientId=_SUBJECT)),
) | {
    "description": "May this source call that port of this destination? 'operator' or 'agent' say "
    "on whose behalf; that is recorded.",
    "not": {
        "required": ["operator", "agent"],
        "properties": {"operator": {"type": "object"}, "agent": {"type": "object"}},
    },
}
SCHEMAS: Json = {
    "Problem": _object(
        ["type", "title", "status"],
        type=_text("names the kind of problem", format="uri"),
        title=_text(),
        status={"type": "integer"},
        detail=_text(),
        errors=_list(
            _object(
                ["detail"],
                detail=_text(),
                pointer=_text("JSON pointer into the body, as a URI fragment"),
                parameter=_text("name of a parameter"),
            )
        ),
    ),
    "Question": _QUESTION,
    "Questions": _closed(
        ["requests"], requests=_list(_ref("Question"), minItems=1, maxItems=MAX_BATCH)
    ),
    "Answer": _object(
        [*_ANSWER, "decisionId", "latency_us"],
        **_ANSWER,
        decisionId=_maybe(
            _text("of its record; null where it could not be recorded", format="uuid")
        ),
        latency_us=_COUNT,
    ),
    "Answers": _object(["answers"], answers=_list(_ref("Answer"))),
    "Explanation": _object(
        ["source", "destination", "port", *_ANSWER, "file", "line", "column", "planes", "hints"],
        source=_PARTY,
        destination=_PARTY,
        port=_PORT,
        **_ANSWER,
        file=_maybe(_text("of the rule")),
        line=_maybe(_COUNT),
        column=_maybe(_COUNT),
        planes={
            "type": ["array", "null"],
            "description": "null where the evaluator has a compiled table alone",
            "items": _object(
                ["plane", "stance", "why", "weaker"],
                plane=_text(),
                stance=_text(),
                why=_text(),
                weaker=_maybe(_text()),
            ),
        },
        hints=_list({"type": "object"}),
    ),
    "Policies": _object(
        ["revision", "problems", "policies"],
        revision=_text(),
        problems=_list(_text("what is wrong with a change that was left out")),
        policies=_list(
            _object(
                ["kind", "name", "where", "spec", "etag"],
                kind={"enum": [*KINDS]},
                name=_text(),
                where=_text("file:line:column"),
                spec={"type": "object"},
                etag=_text("for If-Match"),
            )
        ),
    ),
    "Policy": _object(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion=_text(),
        kind={"enum": [*KINDS]},
        metadata=_object(["name"], name=_text()),
        spec={"type": "object"},
    ),
    "Changed": _object(
        ["name", "decisionId", "file", "etag", "warnings", "diff", "planes", "note"],
        name=_text(),
        decisionId=_text("of the record of the change", format="uuid"),
        file=_text(),
        etag=_text(),
        warnings=_list({"type": "object"}),
        diff=_maybe({"type": "object", "description": "as `zt diff --json` tells it"}),
        planes=_object(
            ["follow", "wait"],
            follow=_list({"type": "object"}),
            wait=_list({"type": "object"}),
        ),
        note=_text(),
    ),
    "Record": _object(
        ["timestamp", "decision", "source", "destination", "policy_matched", "latency_us", "id"],
        timestamp=_TIME,
        decision=_VERDICT,
        source=_object(
            ["spiffe_id", "pod", "node"],
            spiffe_id=_maybe(_text()),
            pod=_maybe(_text()),
            node=_maybe(_text()),
        ),
        destination=_object(["spiffe_id", "port"], spiffe_id=_text(), port={"type": "integer"}),
        policy_matched=_text(),
        latency_us=_COUNT,
        id=_text(format="uuid"),
    ),
    "Records": _object(
        ["records", "next"],
        records=_list(_ref("Record")),
        next=_maybe(_text("cursor of the page that follows")),
    ),
    "Graph": _object(
        ["nodes", "edges"],
        nodes=_list(_object(["id", "declared"], id=_text(), declared={"type": "boolean"})),
        edges=_list(
            _object(
                ["source", "destination", "port", "allowed", "denied", "wouldDeny", "lastSeen"],
                source=_maybe(_text()),
                destination=_text(),
                port={"type": "integer"},
                allowed=_COUNT,
                denied=_COUNT,
                wouldDeny=_COUNT,
                lastSeen=_TIME,
            )
        ),
    ),
}


def responses(
    name: str, *problems: int, also: str = "", status: int = 200
) -> dict[int | str, Json]:
    """What a route answers: a schema's JSON, perhaps another media type, and problems."""
    content: Json = {JSON: {"schema": _ref(name)}}
    if also:
        content[also] = {"schema": {"type": "string"}}
    refused: dict[int | str, Json] = {
        number: {
            "description": _MEANINGS[number],
            "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
        }
        for number in sorted({403, 503, *problems})
    }
    return {status: {"description": "The answer.", "content": content}, **refused}


def sends(name: str, *others: str) -> Json:
    """What a route is sent."""
    content: Json = {JSON: {"schema": _ref(name)}}
    content |= {media: {"schema": {"type": "string"}} for media in others}
    return {"requestBody": {"required": True, "content": content}}


def conditions() -> Json:
    """The headers by which a change says what it may overwrite."""
    texts = {
        "If-Match": "the ETag of the policy as it was read, or * for any",
        "If-None-Match": "* where none of that name may be there",
    }
    return {
        "parameters": [
            {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
            for name, text in texts.items()
        ]
    }


def describe(app: FastAPI) -> Json:
    """The whole description; made once."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        components = found.setdefault("components", {})
        components.setdefault("schemas", {}).update(SCHEMAS)
        components["securitySchemes"] = {
            "svid": {
                "type": "mutualTLS",
                "description": "An SVID of a service that the policy declares.",
            }
        }
        found["security"] = [{"svid": []}]
        app.openapi_schema = found
    return app.openapi_schema
