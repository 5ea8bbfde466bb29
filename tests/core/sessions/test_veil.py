"""What an agent says of its own keys."""

from hypothesis import given
from hypothesis import strategies as st

from colony_core.backends import ApprovalAsked, Ended, Text, ToolResult, ToolUse
from colony_core.sessions.veil import Veil

KEY = "sk-ant-canary-0123456789"
ENVIRONMENT = {"ANTHROPIC_API_KEY": KEY, "HTTPS_PROXY": "http://ada:secret@proxy:3128", "GOOSE_MODEL": "a-long-model"}


def test_a_key_is_hidden_wherever_it_is_said() -> None:
    veil = Veil(ENVIRONMENT)
    assert (
        veil.over(ToolResult(id="t", text=f"KEY={KEY}\nPATH=/bin", ok=True)).text
        == "KEY=‹ANTHROPIC_API_KEY›\nPATH=/bin"
    )
    asked = veil.over(ApprovalAsked(id="q", tool="Bash", input={"command": ["curl", {KEY: KEY}]}, kind="execute"))
    assert KEY not in str(asked)
    assert veil.over(ToolUse(id="t", name="Bash", input={"command": f"echo {KEY}"})).input == {
        "command": "echo ‹ANTHROPIC_API_KEY›"
    }
    ended = veil.over(Ended(outcome="failed", text=KEY, evidence=(f"it said last: {KEY}", "exit 3")))
    assert KEY not in str(ended)
    assert ended.evidence[1] == "exit 3"
    assert "secret" not in veil.over(Text(text="via http://ada:secret@proxy:3128")).text


def test_what_is_no_key_is_left_as_it_is() -> None:
    veil = Veil(ENVIRONMENT)
    told = Text(text="a-long-model")
    assert veil.over(told) is told
    assert Veil({"OPENAI_API_KEY": "short"}).over(Text(text="a short word")).text == "a short word"


@given(st.lists(st.sampled_from(["sk-", "ant-canary", "-0123", "456789", KEY, "s", "k", " and ", "‹"])))
def test_no_key_is_told_in_pieces(pieces: list[str]) -> None:
    """However a text is cut, its pieces together are the text without its keys, but for an end that may begin one."""
    veil = Veil(ENVIRONMENT)
    told = "".join(veil.piece(piece) for piece in pieces)
    whole = veil.over(Text(text="".join(pieces))).text
    assert KEY not in told
    assert whole.startswith(told)
    assert KEY.startswith(whole[len(told) :])
