"""What an agent finds in its environment."""

from pathlib import Path

import pytest

from colony_core.sessions.surroundings import agent_environment

from .played import PlayedBackend
from .test_sessions import house_at, instructed, spawned


def test_the_keys_of_a_cloud_are_handed_on_only_where_the_model_is_there() -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "GOOGLE_APPLICATION_CREDENTIALS": "/g", "DATABASE_URL": "d"}
    assert agent_environment(keys) == {}
    assert agent_environment(keys | {"CLAUDE_CODE_USE_BEDROCK": "0"}) == {"CLAUDE_CODE_USE_BEDROCK": "0"}
    bedrock, vertex = {"CLAUDE_CODE_USE_BEDROCK": "1"}, {"CLAUDE_CODE_USE_VERTEX": "1"}
    assert agent_environment(keys | bedrock) == {"AWS_ACCESS_KEY_ID": "a", **bedrock}
    assert agent_environment(keys | vertex) == {"GOOGLE_APPLICATION_CREDENTIALS": "/g", **vertex}
    assert agent_environment(keys, beneath=bedrock) == {"AWS_ACCESS_KEY_ID": "a"}


async def test_a_project_that_says_where_its_model_is_gets_at_no_key_of_whoever_runs_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-user")
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path)
        (tmp_path / "home-hello" / ".env").write_text("CLAUDE_CODE_USE_BEDROCK=1\nAWS_ACCESS_KEY_ID=of-the-project\n")
        await instructed(house)
        environment = (await agent.scene()).job.environment
        assert environment["AWS_ACCESS_KEY_ID"] == "of-the-project"
        assert "AWS_SECRET_ACCESS_KEY" not in environment
