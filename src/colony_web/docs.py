"""The OpenAPI document as one page to read: no script, nothing loaded, works offline. Pure."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from colony_core.views import SystemView

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 0 auto; padding: 1rem; }
code, pre { font: 14px/1.4 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .6rem; border: 1px solid color-mix(in srgb, currentColor 25%, transparent); border-radius: .3rem; }
summary { cursor: pointer; padding: .3rem 0; }
details { border-bottom: 1px solid color-mix(in srgb, currentColor 15%, transparent); }
details > *:not(summary) { margin-left: 1.2rem; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top; }
.method { display: inline-block; min-width: 4.5rem; font-weight: 700; }
.get { color: light-dark(#0a6b2d, #62c98b); } .post { color: light-dark(#8a4b00, #e2a54e); } .delete { color: light-dark(#a11, #f08080); }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
CONTENT_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page(document: Mapping[str, Any], *, system: SystemView, root: str = "") -> str:
    """The page; `root` is where the face is mounted, and `system` tells where its examples reach it."""
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        f"<title>{escape(info['title'])} API</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])}</p>",
        f'<p>The same for programs: <a href="{escape(root)}/openapi.json">openapi.json</a></p>',
        f"<h2>Ask</h2><pre>{escape(_examples(system, root))}</pre><h2>Routes</h2>",
        *_operations(document),
        "<h2>Problems</h2><table>",
        *(
            f"<tr><td>{status.removeprefix('Problem')}</td><td>{escape(answer['description'])}</td></tr>"
            for status, answer in document["components"]["responses"].items()
        ),
        "</table><h2>Types</h2>",
        *(_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())),
        "</body></html>",
    ]
    return "".join(parts)


def _examples(system: SystemView, root: str) -> str:
    lines = []
    if system.api_url:  # else another server carries the face, at an address that only its reader knows
        lines.append(f"curl --unix-socket {system.socket} http://localhost{root}/api/colonies")
    lines += [
        "TOKEN=$(colony token create my-laptop -q)",
        f'curl -H "Authorization: Bearer $TOKEN" {system.api_url or "http://localhost:8000"}{root}/api/colonies',
    ]
    return "\n".join(lines)


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield (
                f'<details id="{escape(operation["operationId"])}"><summary><span class="method {escape(method)}">'
                f"{escape(method.upper())}</span> <code>{escape(path)}</code> {escape(operation['summary'])}</summary>"
            )
            if "description" in operation:
                yield f"<p>{escape(operation['description'])}</p>"
            yield _parameters(operation.get("parameters", []))
            if "requestBody" in operation:
                yield f"<p>Body: {_named(operation['requestBody']['content'])}</p>"
            yield "<table>"
            shared = [status for status, answer in operation["responses"].items() if "$ref" in answer]
            for status, answer in operation["responses"].items():
                if status in shared:
                    continue
                words = escape(answer.get("description", "problem"))
                yield f"<tr><td>{escape(status)}</td><td>{words}</td><td>{_named(answer.get('content', {}))}</td></tr>"
            yield f"<tr><td>else</td><td>{escape(', '.join(shared))}</td><td>a problem, see below</td></tr>"
            yield "</table></details>"


def _parameters(parameters: list[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{escape(each['in'])}</td>"
        f"<td><code>{escape(_type(each['schema']))}</code></td><td>{escape(_words(each))}</td></tr>"
        for each in parameters
    )
    return f"<table>{rows}</table>" if rows else ""


def _words(parameter: Mapping[str, Any]) -> str:
    return str(parameter.get("description") or parameter["schema"].get("description", ""))


def _named(content: Mapping[str, Any]) -> str:
    return ", ".join(f"<code>{escape(kind)}</code> {escape(_type(each['schema']))}" for kind, each in content.items())


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items') or {})}"
    if "enum" in schema:
        return " | ".join("null" if each is None else str(each) for each in schema["enum"])
    return str(schema.get("type", "anything"))


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    shown = escape(json.dumps(schema, indent=2, ensure_ascii=False))
    return (
        f'<details id="type-{escape(name)}"><summary><code>{escape(name)}</code></summary><pre>{shown}</pre></details>'
    )
