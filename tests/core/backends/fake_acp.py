"""An agent that speaks ACP and does what its instruction says: a list of steps, as JSON. Run as a program; needs nothing but Python.

`python fake_acp.py '{"hello": {…}}'` changes what it says of itself. A step is one of
  {"say": text, "message": id}  {"think": text}  {"update": {…}}  {"raw": line}  {"stderr": text}
  {"ask": {toolCall}, "options": [...]}   waits for the answer and says it; with "no_wait" it goes on
  {"record": true}                        says everything that it was told
  {"call": method}                        asks something that no client offers, and says the answer
  {"exit": code} {"signal": n}
  {"stop": reason} {"error": {...}} {"hang": true} {"orphan": true} {"long": MiB} {"void": true} {"wait_cancel": true}
"""

import json
import os
import sys
import threading
from queue import Queue
from typing import Any

SETTINGS: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
HELLO = {
    "protocolVersion": 1,
    "agentCapabilities": {"loadSession": True, "sessionCapabilities": {}},
    "agentInfo": {"name": "fake", "version": "1.2"},
    "authMethods": [],
    **SETTINGS.get("hello", {}),
}
SESSION = {"sessionId": "s-1", **SETTINGS.get("session", {})}
OPTIONS = [
    {"optionId": "A", "name": "Always", "kind": "allow_always"},
    {"optionId": "1", "name": "Yes", "kind": "allow_once"},
    {"optionId": "0", "name": "No", "kind": "reject_once"},
]
answers: dict[int, Queue[Any]] = {}
cancelled = threading.Event()
lock = threading.Lock()
record: list[Any] = []
last_id = -1


def send(message: dict[str, Any]) -> None:
    write(json.dumps({"jsonrpc": "2.0", **message}))


def write(line: str) -> None:
    with lock:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def update(kind: str, **fields: Any) -> None:
    send({"method": "session/update", "params": {"sessionId": "s-1", "update": {"sessionUpdate": kind, **fields}}})


def say(text: str, message: str = "") -> None:
    chunk: dict[str, Any] = {"content": {"type": "text", "text": text}}
    update("agent_message_chunk", **chunk, **({"messageId": message} if message else {}))


def ask(method: str, params: dict[str, Any], *, wait: bool) -> Any:
    global last_id
    last_id += 1
    queue = answers[last_id] = Queue()
    send({"id": last_id, "method": method, "params": params})
    return queue.get() if wait else None


def play(number: Any, steps: list[dict[str, Any]]) -> None:
    for step in steps:
        if "say" in step:
            say(step["say"], step.get("message", ""))
        elif "think" in step:
            update("agent_thought_chunk", content={"type": "text", "text": step["think"]})
        elif "update" in step:
            params = {"sessionId": step.get("session", "s-1"), "update": step["update"]}
            send({"method": "session/update", "params": params})
        elif "raw" in step:
            write(step["raw"])
        elif "long" in step:
            with lock:
                for _ in range(step["long"]):
                    sys.stdout.write("x" * 2**20)
                sys.stdout.write("\n")
                sys.stdout.flush()
        elif "record" in step:
            say(json.dumps(record))
        elif "stderr" in step:
            print(step["stderr"], file=sys.stderr, flush=True)
        elif "ask" in step:
            params = {"sessionId": "s-1", "toolCall": step["ask"], "options": step.get("options", OPTIONS)}
            answer = ask("session/request_permission", params, wait=not step.get("no_wait"))
            if step.get("result"):
                chosen = answer["result"]["outcome"].get("optionId")
                status = "completed" if chosen in ("A", "1") else "failed"
                update("tool_call_update", toolCallId=step["ask"]["toolCallId"], status=status)
            elif answer is not None:
                say(json.dumps(answer.get("result", answer.get("error"))))
        elif "void" in step:
            send({"method": "$/cancel_request", "params": {"requestId": last_id}})
        elif "call" in step:
            say(json.dumps(ask(step["call"], {}, wait=True).get("error")))
        elif "exit" in step:
            os._exit(step["exit"])
        elif "signal" in step:
            os.kill(os.getpid(), step["signal"])
        elif "orphan" in step:
            if os.fork() == 0:
                os.setsid()
                threading.Event().wait(60)
                os._exit(0)
        elif "hang" in step:
            threading.Event().wait()
        elif "wait_cancel" in step:
            cancelled.wait()
            if SETTINGS.get("asks_when_cancelled"):
                params = {"sessionId": "s-1", "toolCall": {"toolCallId": "late"}, "options": OPTIONS}
                late = ask("session/request_permission", params, wait=True)
                update("agent_thought_chunk", content={"type": "text", "text": json.dumps(late["result"])})
        elif "error" in step:
            send({"id": number, "error": step["error"]})
            return
        elif "stop" in step:
            send({"id": number, "result": {"stopReason": step["stop"]}})
            return
    usage = {"inputTokens": 10, "outputTokens": 5, "cachedReadTokens": 2, "cachedWriteTokens": 1, "totalTokens": 18}
    send({"id": number, "result": {"stopReason": "cancelled" if cancelled.is_set() else "end_turn", "usage": usage}})


def heard(message: dict[str, Any]) -> None:
    method, number = message.get("method"), message.get("id")
    record.append([method, message.get("params")])
    if method is None:
        answers[message["id"]].put(message)
    elif method == "session/cancel":
        cancelled.set()
    elif method in SETTINGS.get("errors", {}):
        send({"id": number, "error": SETTINGS["errors"][method]})
    elif method in SETTINGS.get("dies_at", ()):
        os._exit(3)
    elif method in SETTINGS.get("silent_at", ()):
        return
    elif method == "initialize":
        if "banner" in SETTINGS:
            write(SETTINGS["banner"])
        send({"id": number, "result": HELLO})
    elif method in ("session/new", "session/resume"):
        send({"id": number, "result": SESSION})
    elif method == "session/load":
        for step in SETTINGS.get("history", ()):
            send({"method": "session/update", "params": {"sessionId": "s-1", "update": step}})
        send({"id": number, "result": {}})
    elif method == "session/prompt":
        text = message["params"]["prompt"][-1]["text"]
        steps = json.loads(text) if text.startswith("[") else [{"say": f"echo: {text}"}]
        threading.Thread(target=play, args=(number, steps), daemon=True).start()
    elif method in ("session/set_mode", "session/set_config_option"):
        send({"id": number, "result": {}})


for line in sys.stdin:
    heard(json.loads(line))
if SETTINGS.get("stays"):
    threading.Event().wait()
os._exit(0)
