import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import trio

from colony_core.errors import AlreadyExists, Invalid, NotFound
from colony_core.routing import open_tcp_listener, open_unix_listener, port_holder


async def test_a_listener_takes_any_free_port_and_is_not_inherited():
    listener = await open_tcp_listener("127.0.0.1", 0, what="the API", config_key="server.port")
    async with listener:
        assert listener.socket.getsockname()[1] > 0
        assert not os.get_inheritable(listener.socket.fileno())


async def test_a_listener_on_ipv6_leaves_ipv4_alone():
    listener = await open_tcp_listener("::1", 0, what="the API", config_key="server.port")
    async with listener:
        port = listener.socket.getsockname()[1]
        assert listener.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        other = await open_tcp_listener("127.0.0.1", port, what="the API", config_key="server.port")
        await other.aclose()


HOLD = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); sys.stdin.read()"


async def test_a_taken_port_names_who_holds_it_and_what_to_do():
    with subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdin
        port = int(holder.stdout.readline())
        with pytest.raises(AlreadyExists) as caught:
            await open_tcp_listener("127.0.0.1", port, what="the preview proxy", config_key="routing.port")
        holder.stdin.close()
    error = caught.value
    assert error.code == "port-taken"
    assert error.message.startswith(f"the preview proxy cannot listen on 127.0.0.1:{port}: ")
    assert f"process {holder.pid}" in error.message
    assert "routing.port" in error.hint
    assert error.details["pid"] == holder.pid


def test_who_holds_a_port_may_stay_unknown(tmp_path):
    (tmp_path / "net").mkdir()
    table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    row = "   0: 0100007F:1F98 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0\n"
    (tmp_path / "net/tcp").write_text(table + row)
    assert port_holder(8088, tmp_path) is None
    (tmp_path / "77/fd").mkdir(parents=True)
    (tmp_path / "77/fd/3").symlink_to("socket:[4242]")
    (tmp_path / "77/comm").write_text("node\n")
    assert port_holder(8088, tmp_path) == (77, "node")
    assert port_holder(8089, tmp_path) is None


async def test_an_address_of_another_machine_is_told():
    with pytest.raises(Invalid) as caught:
        await open_tcp_listener("192.0.2.1", 0, what="the API", config_key="server.port")
    assert caught.value.code == "address-not-usable"
    assert "server.bind" in caught.value.hint


async def test_a_unix_listener_replaces_a_leftover_is_for_its_user_alone_and_leaves_nothing(tmp_path):
    path = tmp_path / "run" / "previews.sock"
    path.parent.mkdir()
    path.write_text("left over")
    async with open_unix_listener(path) as listener:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with await trio.open_unix_socket(str(path)), await listener.accept():
            pass
    assert not path.exists()


@pytest.mark.root
async def test_a_unix_listener_for_a_group_lets_its_members_in_and_nobody_else():
    knock = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        path = Path(folder) / "previews" / "previews.sock"
        async with open_unix_listener(path, group="daemon"):
            for group, code in (("daemon", 0), ("nogroup", 1)):
                command = ["/usr/bin/env", "python3", "-S", "-c", knock, str(path)]
                person = {"user": "nobody", "group": group, "extra_groups": []}
                done = await trio.run_process(command, **person, check=False, capture_stderr=True)
                assert done.returncode == code, done.stderr


async def test_a_unix_listener_that_cannot_be_says_why(tmp_path):
    with pytest.raises(NotFound, match="no group nobodys-group"):
        async with open_unix_listener(tmp_path / "a.sock", group="nobodys-group"):
            pass
    with pytest.raises(Invalid) as caught:
        async with open_unix_listener(tmp_path / ("a" * 120)):
            pass
    assert "COLONY_RUN" in caught.value.hint
