"""Accounts that have reached a limit."""

from colony_core.sessions.pauses import account_of


def test_an_account_is_told_apart_by_its_keys_and_by_where_its_login_lies() -> None:
    keys: list[dict[str, str]] = [
        {},
        {"AWS_PROFILE": "a"},
        {"CLAUDE_CONFIG_DIR": "/a"},
        {"ANTHROPIC_API_KEY": "secret"},
    ]
    accounts = [account_of("claude", "ada", each) for each in keys]
    assert len(set(accounts)) == len(keys)
    assert account_of("claude", "ada", {"ANTHROPIC_API_KEY": "secret", "ANTHROPIC_MODEL": "x"}) == accounts[-1]
    assert "secret" not in "".join(accounts)
