"""What of a command may be written down."""

import pytest

from colony_core.access.masking import MOST_LETTERS, masked_command

VARIABLES = {"API_TOKEN": "s3cr3t-value", "HOME": "/home/ann", "DB_PASSWORD": "abc"}


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["ls", "-l", "a b"], "ls -l 'a b'"),
        (["curl", "-H", "X: s3cr3t-value"], "curl -H 'X: …'"),
        (["mysql", "--password", "hunter2", "db"], "mysql --password '…' db"),
        (["mysql", "--password=hunter2"], "mysql '--password=…'"),
        (["sh", "-c", "GITHUB_TOKEN=hunter2 make"], "sh -c 'GITHUB_TOKEN=… make'"),
        (["sh", "-c", "tool --api-key hunter2 go"], "sh -c 'tool --api-key … go'"),
        (["curl", "-H", "Authorization: Bearer hunter2"], "curl -H 'Authorization: Bearer …'"),
        (["psql", "postgres://ann:hunter2@db/shop?a@b"], "psql 'postgres://ann:…@db/shop?a@b'"),
        (
            ["curl", "http://localhost:8000/a@b", "ssh://git@host:22/x"],
            "curl http://localhost:8000/a@b ssh://git@host:22/x",
        ),
        (["echo", "/home/ann", "abc"], "echo /home/ann abc"),
    ],
)
def test_secrets_that_a_name_gives_away_are_left_out(words: list[str], written: str) -> None:
    assert masked_command(words, VARIABLES) == written


def test_a_token_of_ours_keeps_its_public_part_alone() -> None:
    token = f"cut_1_{'a' * 12}_{'b' * 43}_{'c' * 6}"
    assert masked_command(["echo", token], {}).startswith(f"echo 'cut_1_{'a' * 12}")
    assert "b" not in masked_command(["echo", token], {}).partition("cut_1_")[2]


def test_a_long_command_is_cut() -> None:
    assert len(masked_command(["echo", "x" * 5000], {})) == MOST_LETTERS
