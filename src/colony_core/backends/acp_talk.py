"""The client's side of a conversation over ACP: who the agent is, its session, one prompt, and the questions in between."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import attrs
import trio

from colony_core import __version__
from colony_core.errors import ColonyError, Invalid, NotFound

from .acp_agents import Plan, new_session, option_of, plan, refused
from .acp_ends import AUTH_REQUIRED, ended_by, failure_of
from .acp_story import Story, cost_of
from .backend import Job
from .happenings import ApprovalAsked, ApprovalVoided, Ended, Notice, Started
from .jsonrpc import LineLost, Peer, Request, RpcError
from .loose import as_dict, as_dicts, as_text
from .permits import answer_for, kind_to_ask, paths_of
from .places import look
from .telling import Telling

VERSION = 1
HELLO_SECONDS = 60.0
SESSION_SECONDS = 120.0
CANCELLED: dict[str, Any] = {"outcome": {"outcome": "cancelled"}}
_OPTION_KINDS = {True: ("allow_once", "allow_always"), False: ("reject_once", "reject_always")}


@attrs.frozen(kw_only=True)
class Hello:
    """How an agent introduced itself."""

    agent: str
    version: str
    capabilities: Mapping[str, Any]
    logins: tuple[str, ...]

    def offers(self, capability: str) -> bool:
        """Whether it has a capability of sessions."""
        return as_dict(self.capabilities.get("sessionCapabilities")).get(capability) is not None


@attrs.frozen(kw_only=True)
class _Question:
    request: Request
    options: Mapping[str, str]
    """Ids by kind."""

    def chosen(self, *, allow: bool) -> str | None:
        return next((self.options[kind] for kind in _OPTION_KINDS[allow] if kind in self.options), None)


async def initialize(peer: Peer) -> Hello:
    """Lets the agent introduce itself. Raises Invalid (`acp-version`) where it speaks another version than ours, RpcError, LineLost."""
    files = {"readTextFile": False, "writeTextFile": False}
    said = await peer.call(
        "initialize",
        {
            "protocolVersion": VERSION,
            "clientCapabilities": {"fs": files, "terminal": False},
            "clientInfo": {"name": "colony", "title": "Colony", "version": __version__},
        },
    )
    who = as_dict(said.get("agentInfo"))
    name = as_text(who.get("name")) or "the agent"
    version = said.get("protocolVersion")
    if version != VERSION or isinstance(version, bool):
        raise Invalid(
            "acp-version",
            f"{name} speaks version {version!s:.20} of ACP, Colony speaks {VERSION}",
            "update one of both",
        )
    logins = [as_text(method.get("name")) or as_text(method.get("id")) for method in as_dicts(said.get("authMethods"))]
    return Hello(
        agent=name,
        version=as_text(who.get("version")),
        capabilities=as_dict(said.get("agentCapabilities")),
        logins=tuple(login for login in logins if login),
    )


class Talk:
    """One job's conversation. `peer` must run meanwhile."""

    def __init__(self, job: Job, telling: Telling, receive: trio.abc.ReceiveStream, send: trio.abc.SendStream) -> None:
        self.peer = Peer(receive, send, asked=self._asked, told=self._told)
        self._job = job
        self._telling = telling
        self._session = ""
        self._cost_before = 0.0
        self._story: Story | None = None
        self._stopping = False
        self._questions: dict[str, _Question] = {}
        self._asked_so_far = 0

    @property
    def prompting(self) -> bool:
        """Whether the agent is at work on the instruction."""
        return self._story is not None

    async def converse(self) -> Ended:
        """The whole conversation. Never raises but when cancelled: every trouble is an end."""
        try:
            return await self._conversed()
        except RpcError as error:
            failure = failure_of(error)
            if failure.limit is not None:
                self._telling.tell_now(failure.limit)
            return Ended(
                outcome="failed", code=failure.code, text=failure.text, evidence=(f"the agent answered {error.code}",)
            )
        except LineLost as error:
            return Ended(
                outcome="failed",
                code="agent-died",
                text=f"the agent is gone: {error.message}",
                evidence=(error.message,),
            )
        except trio.TooSlowError:
            return Ended(
                outcome="failed", code="protocol", text="the agent did not answer when it was asked for a session"
            )
        except ColonyError as error:
            return Ended(outcome="failed", code=error.code, text=str(error), evidence=(error.message,))

    async def stop(self) -> None:
        """Asks the agent to stop, and takes back every open question of its."""
        self._stopping = True
        self._void(*self._questions)
        with suppress(LineLost):
            await self.peer.notify("session/cancel", {"sessionId": self._session})

    def answer(self, approval: str, *, allow: bool) -> None:
        """Answers a question. Raises NotFound where it is not open, Invalid where the agent left no such choice."""
        question = self._questions.get(approval)
        if question is None:
            raise NotFound(
                "approval-not-found", f"nobody waits for an answer to {approval}", "colony feed shows what is open"
            )
        option = question.chosen(allow=allow)
        if option is None and allow:
            raise Invalid("approval-not-offered", "the agent offers no way to allow this", "deny it")
        del self._questions[approval]
        self.peer.answer(question.request, _selected(option))

    async def _conversed(self) -> Ended:
        with trio.fail_after(HELLO_SECONDS):
            hello = await initialize(self.peer)
        forbidden = refused(self._job.config, hello.agent)
        if forbidden:
            raise Invalid(
                "setting-refused",
                f"{hello.agent} cannot be held to {forbidden}",
                "leave it away, or take the backend claude",
            )
        with trio.fail_after(SESSION_SECONDS):
            session = await self._opened(hello)
            how = await self._set(plan(self._job.config, hello.agent, session))
        model = next(
            (s.params["value"] for s in how.settings if s.what == "model"),
            as_text(option_of(session, "model").get("currentValue")),
        )
        await self._telling.tell(
            Started(session=self._session, model=self._job.config.model or model, version=hello.version)
        )
        if how.left:
            await self._telling.tell(
                Notice(text=f"{hello.agent} could not be told: {', '.join(how.left)}", code="setting-left")
            )
        return await self._prompted(how)

    async def _opened(self, hello: Hello) -> dict[str, Any]:
        """A session, new or gone on with. Raises Invalid with the next step where the agent wants a login or cannot resume."""
        given = new_session(self._job, hello.agent)
        self._session = self._job.resume or ""
        try:
            if self._job.resume is None:
                session = await self.peer.call("session/new", given)
                self._session = as_text(session.get("sessionId"))
                if not self._session:
                    raise Invalid("protocol", f"{hello.agent} gave its session no id", "update the agent")
                return session
            given["sessionId"] = self._job.resume
            if hello.offers("resume"):
                return await self.peer.call("session/resume", given)
            if hello.capabilities.get("loadSession") is True:
                return await self.peer.call("session/load", given)
        except RpcError as error:
            if error.code != AUTH_REQUIRED:
                raise
            ways = f" ({', '.join(hello.logins)})" if hello.logins else ""
            raise Invalid(
                "not-logged-in",
                f"{hello.agent} wants a login{ways}",
                "log in once with the agent itself, or set its key in the environment",
            ) from error
        raise Invalid("resume-not-offered", f"{hello.agent} cannot go on with an earlier session", "begin a new one")

    async def _set(self, how: Plan) -> Plan:
        """Sets what can be set; what the agent refuses is left."""
        done, left = [], list(how.left)
        for setting in how.settings:
            try:
                await self.peer.call(setting.method, {"sessionId": self._session, **setting.params})
                done.append(setting)
            except RpcError as error:
                left.append(f"{setting.what} ({error.message})")
        return attrs.evolve(how, settings=tuple(done), left=tuple(left))

    async def _prompted(self, how: Plan) -> Ended:
        texts = (*how.preface, self._job.instruction)
        prompt = [{"type": "text", "text": text} for text in texts]
        story = self._story = Story(self._cost_before)
        usage: object = None
        try:
            answer = await self.peer.call("session/prompt", {"sessionId": self._session, "prompt": prompt})
            usage = answer.get("usage")
        finally:
            self._story = None
            for happening in story.finish(usage):
                self._telling.tell_now(happening)
            self._void(*self._questions)
        return ended_by(answer.get("stopReason"), story.last_text)

    async def _told(self, method: str, params: dict[str, Any]) -> None:
        if method == "$/cancel_request":
            self._void(*(key for key, asked in self._questions.items() if asked.request.id == params.get("requestId")))
        if method != "session/update" or params.get("sessionId") != self._session:
            return
        update = as_dict(params.get("update"))
        if self._story is not None:
            await self._telling.tell(*self._story.update(update))
        else:
            # Of what happened before the prompt, told again by `session/load`, only the bill counts.
            self._cost_before = max(self._cost_before, cost_of(update) or 0.0)

    async def _asked(self, request: Request) -> bool:
        if request.method != "session/request_permission":
            return False
        story = self._story
        if story is not None and not self._stopping:
            tool, news = story.tool(as_dict(request.params.get("toolCall")))
            await self._telling.tell(*news)
            use = tool.use
            reach = await look(use.kind, self._job.workdir, (*tool.paths, *tool.changed, *paths_of(tool.input)))
        if story is None or self._story is not story or self._stopping:
            self.peer.answer(request, CANCELLED)
            return True
        question = _Question(request=request, options=_options(request.params.get("options")))
        answer = answer_for(self._job, use.name, use.kind, reach)
        option = None if answer is None else question.chosen(allow=answer)
        if answer is False or option is not None:
            self.peer.answer(request, _selected(option))
            return True
        self._asked_so_far += 1
        approval = f"{tool.id or 'question'}.{self._asked_so_far}"
        self._questions[approval] = question
        self._telling.tell_now(
            ApprovalAsked(
                id=approval,
                tool=use.name,
                input=use.input,
                kind=kind_to_ask(use.kind, reach),
                title=use.title,
                reason=reach.beyond,
                tool_use=tool.id,
            )
        )
        return True

    def _void(self, *approvals: str) -> None:
        """Takes back questions that are open."""
        for approval in approvals:
            question = self._questions.pop(approval)
            self._telling.tell_now(ApprovalVoided(id=approval))
            with suppress(LineLost):
                self.peer.answer(question.request, CANCELLED)


def _selected(option: str | None) -> dict[str, Any]:
    return CANCELLED if option is None else {"outcome": {"outcome": "selected", "optionId": option}}


def _options(given: object) -> dict[str, str]:
    options: dict[str, str] = {}
    for option in as_dicts(given):
        if option_id := as_text(option.get("optionId")):
            options.setdefault(as_text(option.get("kind")), option_id)
    return options
