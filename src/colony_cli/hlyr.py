"""Stands where HumanLayer's `hlyr mcp claude_approvals` would: asks the daemon whether an agent may use a tool. Standard library only.

A tool server that speaks MCP on its standard streams and has one tool, `request_permission`. Claude Code ends at its first use of a tool
where it is missing.
"""

import json
import os
import socket
import sys
import time
from typing import Any, TextIO

POLL_SECONDS = 0.3
VERSION = "2025-06-18"
TOOL = {
    "name": "request_permission",
    "description": "Asks a person whether a tool may be used.",
    "inputSchema": {
        "type": "object",
        "properties": {"tool_name": {"type": "string"}, "input": {"type": "object"}, "tool_use_id": {"type": "string"}},
        "required": ["tool_name", "input"],
    },
}


def serve(lines: TextIO, out: TextIO, path: str, session: str) -> None:
    """Answers requests until there are no more."""
    for line in lines:
        request = json.loads(line) if line.strip() else {}
        if "id" not in request:
            continue
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        params = request.get("params") or {}
        match request.get("method"):
            case "initialize":
                version = params.get("protocolVersion") or VERSION
                own = {"name": "colony-hlyr", "version": "1"}
                answer["result"] = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": own}
            case "ping":
                answer["result"] = {}
            case "tools/list":
                answer["result"] = {"tools": [TOOL]}
            case "tools/call" if params.get("name") == TOOL["name"]:
                decision = permission(path, session, params.get("arguments") or {})
                answer["result"] = {"content": [{"type": "text", "text": json.dumps(decision)}]}
            case _:
                answer["error"] = {"code": -32601, "message": "Method not found"}
        out.write(json.dumps(answer) + "\n")
        out.flush()


def permission(path: str, session: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Puts the question to the daemon and waits for its answer, for as long as that takes. A daemon that is gone denies."""
    given = asked.get("input") or {}
    try:
        # With a tool use the field of the run holds the session, for whatever reason.
        question = {"run_id": session, "tool_name": asked.get("tool_name"), "tool_input": given}
        if asked.get("tool_use_id"):
            question["tool_use_id"] = asked["tool_use_id"]
        approval = call(path, "createApproval", question)["approval_id"]
        while True:
            found = call(path, "getApproval", {"approval_id": approval})["approval"]
            if found["status"] != "pending":
                break
            time.sleep(POLL_SECONDS)
    except (OSError, ValueError, KeyError) as error:
        return {"behavior": "deny", "message": f"hld cannot be asked: {error}"}
    if found["status"] == "approved":
        return {"behavior": "allow", "updatedInput": given}
    return {"behavior": "deny", "message": found.get("comment") or "the user does not want this"}


def call(path: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """The daemon's answer; raises ValueError with its words where it refuses, OSError where it is gone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(path)
        sock.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n")
        with sock.makefile("rb") as answers:
            answer = json.loads(answers.readline())
    if answer.get("error"):
        raise ValueError(answer["error"].get("message"))
    result: dict[str, Any] = answer["result"]
    return result


if __name__ == "__main__":
    home = os.environ.get("HOME", "/")
    serve(
        sys.stdin,
        sys.stdout,
        os.environ.get("HUMANLAYER_DAEMON_SOCKET") or f"{home}/.humanlayer/colony/daemon.sock",
        os.environ.get("HUMANLAYER_SESSION_ID", ""),
    )
