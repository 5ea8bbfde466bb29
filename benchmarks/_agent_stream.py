"""A program that speaks like Claude Code on its pipes and says a line so many times a second, each with the moment at which it was said."""

import contextlib
import json
import sys
import time

BURST_SECONDS = 0.01


def run() -> None:
    """Answers what it is asked until it gets an instruction, `rate seconds`; then speaks, and ends when its input does."""
    if "--version" in sys.argv:
        print("0.0.0 (a stream)")
        return
    for line in sys.stdin:
        found = json.loads(line)
        if found["type"] == "control_request":
            answer = {"subtype": "success", "request_id": found["request_id"], "response": {}}
            _tell({"type": "control_response", "response": answer})
        elif found["type"] == "user":
            content = found["message"]["content"]
            text = content if isinstance(content, str) else content[0]["text"]
            rate, seconds = map(float, text.split())
            _speak(rate, seconds)


def _speak(rate: float, seconds: float) -> None:
    _tell({"type": "system", "subtype": "init", "session_id": "s", "model": "stream", "tools": []})
    began, said = time.monotonic(), 0
    while said < rate * seconds:
        due = int((time.monotonic() - began) * rate) + 1
        for _ in range(due - said):
            block = {"type": "text", "text": str(time.time_ns())}
            message = {"id": f"m{said}", "role": "assistant", "content": [block]}
            _tell({"type": "assistant", "message": message, "parent_tool_use_id": None, "session_id": "s"})
            said += 1
        time.sleep(BURST_SECONDS)
    end = {"subtype": "success", "is_error": False, "result": "said", "num_turns": 1, "total_cost_usd": 0.0}
    _tell({"type": "result", "session_id": "s", "usage": {}, **end})


def _tell(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        run()
