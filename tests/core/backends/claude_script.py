"""A program that behaves like Claude Code on its pipes, for what the real one cannot be made to do.

The instruction is a list of steps: `{"print": line}`, `{"raw": text}`, `{"stderr": text}`, `{"sleep": seconds}`, `{"ask": tool}`,
`{"listen": true}` (until it is interrupted), `{"die": signal}`, `{"exit": code}`, `{"hold": seconds}` (a child keeps the output open).
"""

import json
import os
import subprocess
import sys
import time
from typing import Any

SESSION = "0b0e7d3c-0000-4000-8000-000000000001"
ERROR = {
    "type": "result",
    "subtype": "error_during_execution",
    "is_error": True,
    "session_id": SESSION,
    "total_cost_usd": 0.01,
}
NOT_FOUND = {**ERROR, "errors": ["No conversation found with session ID: nobody"]}
USAGE = {"input_tokens": 10, "output_tokens": 5}


def tell(line: dict[str, Any]) -> None:
    print(json.dumps({"session_id": SESSION, **line}), flush=True)


def text(said: str) -> dict[str, Any]:
    message = {
        "id": "msg_1",
        "role": "assistant",
        "model": "claude-sonnet-x",
        "content": [{"type": "text", "text": said}],
    }
    return {"type": "assistant", "message": message, "parent_tool_use_id": None}


def tool(name: str, given: dict[str, Any]) -> dict[str, Any]:
    block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": given}
    return {"type": "assistant", "message": {"id": "msg_1", "content": [block]}, "parent_tool_use_id": None}


def result(said: str, **more: Any) -> dict[str, Any]:
    end = {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "result": said,
        "num_turns": 1,
        "total_cost_usd": 0.01,
    }
    return {**end, "usage": USAGE, **more}


def heard() -> dict[str, Any]:
    """The next line that is no request to initialise; leaves when nobody talks to us any more."""
    for line in sys.stdin:
        found: dict[str, Any] = json.loads(line)
        request = found.get("request", {}).get("subtype")
        if found["type"] == "control_request":
            tell({"type": "control_response", "response": {"subtype": "success", "request_id": found["request_id"]}})
        if request != "initialize":
            return found
    sys.exit(0)


def obey(found: dict[str, Any]) -> None:
    if found.get("request", {}).get("subtype") == "interrupt":
        tell({"type": "user", "message": {"role": "user", "content": "[Request interrupted by user]"}})
        tell(ERROR)
        heard()


def ask(name: str) -> None:
    request = {"subtype": "can_use_tool", "tool_name": name, "input": {"command": "ls"}, "tool_use_id": "toolu_1"}
    tell({"type": "control_request", "request_id": "q1", "request": request})
    found = heard()
    if found["type"] == "control_response":
        answer = found["response"]["response"]
        allowed = answer["behavior"] == "allow"
        block = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "a.txt" if allowed else answer["message"]}
        tell({"type": "user", "message": {"role": "user", "content": [{**block, "is_error": not allowed}]}})
    else:
        tell({"type": "control_cancel_request", "request_id": "q1"})
        obey(found)


def play(step: dict[str, Any]) -> None:
    [(deed, value)] = step.items()
    match deed:
        case "print":
            tell(value)
        case "raw":
            sys.stdout.write(value)
            sys.stdout.flush()
        case "stderr":
            print(value, file=sys.stderr, flush=True)
        case "sleep":
            time.sleep(value)
        case "ask":
            ask(value)
        case "listen":
            obey(heard())
        case "die":
            os.kill(os.getpid(), value)
        case "exit":
            sys.exit(value)
        case "hold":
            subprocess.Popen(["sleep", str(value)], start_new_session=True)


def main() -> None:
    if "--version" in sys.argv:
        print("9.9.9 (Claude Code)")
        return
    resumed = [word.removeprefix("--resume=") for word in sys.argv if word.startswith("--resume=")]
    instruction = heard()["message"]["content"]
    if resumed and resumed[0] != SESSION:
        tell(NOT_FOUND)
        heard()
    tell({"type": "system", "subtype": "init", "model": "claude-sonnet-x", "claude_code_version": "9.9.9"})
    for step in json.loads(instruction):
        play(step)
    tell(result("Done."))
    heard()


if __name__ == "__main__":
    main()
