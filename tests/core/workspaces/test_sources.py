"""What is taken for a repository, a ref or a project's name, and what is refused before any program sees it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.errors import Invalid
from colony_core.workspaces.sources import check_project_name, check_ref, project_name, read_source, without_secret


@pytest.mark.parametrize(
    ("text", "kind", "url", "name"),
    [
        ("user/app", "url", "https://github.com/user/app.git", "user-app"),
        ("user/app.git", "url", "https://github.com/user/app.git", "user-app"),
        ("https://example.org/team/sub/App.git", "url", "https://example.org/team/sub/App.git", "sub-app"),
        ("https://example.org:8443/app/", "url", "https://example.org:8443/app/", "app"),
        ("https://[::1]/user/app", "url", "https://[::1]/user/app", "user-app"),
        ("https://ada@example.org/user/app", "url", "https://ada@example.org/user/app", "user-app"),
        ("ssh://git@example.org:2222/user/app.git", "url", "ssh://git@example.org:2222/user/app.git", "user-app"),
        ("git@github.com:user/app.git", "url", "git@github.com:user/app.git", "user-app"),
        ("/srv/my code/App", "path", "/srv/my code/App", "app"),
        ("/srv/app.git", "path", "/srv/app.git", "app"),
        ("/srv/my...app", "path", "/srv/my...app", "my.app"),
        ("/srv/app.lock.lock", "path", "/srv/app.lock.lock", "app"),
    ],
)
def test_a_repository_is_a_url_a_short_form_or_a_path(text: str, kind: str, url: str, name: str) -> None:
    source = read_source(text)
    assert (source.kind, source.url, source.name) == (kind, url, name)


@pytest.mark.parametrize(
    "text",
    [
        "", "-", "--upload-pack=touch x", "-oProxyCommand=touch x", "app", "./app", "../app", "~/app", "user/app/more",
        "ext::sh -c touch% /tmp/x", "ext::sh", "fd::3", "file:///etc", "http://example.org/app", "git://example.org/app",
        "ftp://example.org/app", "https://", "https:///app", "https://example.org", "https://example.org/",
        "https://-oProxyCommand=x/app", "ssh://-oProxyCommand=touch/app", "ssh://git@-oProxyCommand=x/app",
        "-oProxyCommand=x:user/app", "git@-oProxyCommand=x:app", "git@host:-x", "-c@host:app", "git@host:",
        "https://example.org/-x", "https://example.org/a?x=1", "https://example.org/a#x", "https://example.org:0/a",
        "https://example.org:99999/a", "https://exa mple.org/a", "https://example.org/a\n", "user/app\nmore",
        "user/app\0", "https://ex\x1bample.org/a", "https://user:secret@example.org/a", "/", "/srv/..",
        "https://ghp_0123456789abcdef@github.com/user/app", "https://github_pat_1@github.com/u/a",
        "ssh://git:secret@example.org/a", "https://example.org/" + "a" * 2000, "host:app", "user@[::1]:app",
    ],
)  # fmt: skip
def test_what_could_be_something_else_is_no_repository(text: str) -> None:
    with pytest.raises(Invalid) as raised:
        read_source(text)
    assert raised.value.code == "invalid-repository"
    assert "secret" not in str(raised.value)
    assert "ghp_0123" not in str(raised.value)


@given(st.text(max_size=40))
def test_what_is_taken_never_looks_like_an_option_or_another_transport(text: str) -> None:
    try:
        source = read_source(text)
    except Invalid:
        return
    assert not source.url.startswith("-")
    assert "::" not in source.url.replace("[::", "[")
    assert source.url.startswith(("https://", "ssh://", "/")) or "@" in source.url.partition(":")[0]
    check_project_name(source.name)


@pytest.mark.parametrize("name", ["main", "feature/x", "v1.0", "refs/colony/scout/20260101T000000000Z", "a-b_c", "ä"])
def test_names_of_branches_are_taken(name: str) -> None:
    assert check_ref(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "-x", "--upload-pack=x", "/a", "a/", "a//b", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "a\nb",
     "a\0", "@", "HEAD", "a@{1}", ".a", "a/.b", "a.lock", "a.lock/b", "a.", "x" * 256, "a\x7f", "\u202eevil"],
)  # fmt: skip
def test_what_git_would_refuse_or_misread_is_no_branch(name: str) -> None:
    with pytest.raises(Invalid) as raised:
        check_ref(name)
    assert raised.value.code == "invalid-ref"


@given(
    st.text(max_size=60)
    | st.text(alphabet="a.-_A", max_size=70)
    | st.from_regex(r"a{57,60}(\.lock|[-.])*", fullmatch=True)
)
def test_a_project_is_called_by_a_name_that_is_safe_as_a_folder(text: str) -> None:
    try:
        name = project_name(f"/srv/{text}")
    except Invalid:
        return
    assert check_project_name(name) == name
    assert "/" not in name
    assert not name.startswith((".", "-"))


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "A", "a/b", "a..b", "a b", "x" * 65, "a.lock", ".new-a"])
def test_what_is_no_projects_name(name: str) -> None:
    with pytest.raises(Invalid):
        check_project_name(name)


def test_a_secret_in_an_address_is_not_shown() -> None:
    assert without_secret("https://u:p@example.org/a") == "https://example.org/a"
    assert without_secret("https://ghp_x@example.org/a") == "https://example.org/a"
    assert without_secret("ssh://git@example.org/a") == "ssh://git@example.org/a"
