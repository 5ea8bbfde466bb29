"""What takes a supervisor several steps: the first starts, a group restart, the final stop."""

import trio

from .child import Child, Job
from .engine import Engine
from .restart import group
from .spec import State
from .status import Status


class Driver(Engine):
    """The one task of a supervisor. It sleeps unless there is a sequence to do, or something is due."""

    def children(self) -> tuple[Child, ...]:
        """A snapshot in start order. Not a checkpoint."""
        return tuple(self.kids.values())

    async def drive(self, status: Status | None, ready: trio.Event | None = None) -> None:
        """The life of the supervisor: first starts, recoveries, final stop. Ends when no child is left; never raises by itself."""
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            await self._boot()
            if not self.stop_called:
                self.booting = self.sequence = False
                if status is not None:
                    status.started(self)
                if ready is not None:
                    ready.set()
                self.next_job()
            while not self.stop_called:
                if self.group_job is not None:
                    job, self.group_job = self.group_job, None
                    await self._recover(job)
                    self.sequence = False
                    self.next_job()
                else:
                    await self._pause()
            await self._stop_all()
        self.nursery = None
        self.over.set()

    async def _pause(self) -> None:
        """Until something happens or is due; the only place where the driver waits, so an idle supervisor takes no step."""
        until = min(self.alarms.next_due(), self.deadlines.next_due(), self.graces.next_due())
        self.deadlines.armed = self.graces.armed = until
        await self.bell.wait(until)
        now = self.now()
        self.alarms.fire(now)
        self.deadlines.reap(now)
        self.graces.reap(now)

    async def _boot(self) -> None:
        for child in self.children():
            if self.stop_called:
                return
            self.launch(child, revived=False)
            while child.state is State.STARTING and not self.stop_called:
                await self._pause()

    async def _recover(self, job: Job) -> None:
        """A group restart: stop the others in reverse, wait if there is a delay, start all in order."""
        leader = job.child
        if leader.job is not job:
            return
        members = [m for m in group(self.strategy, self.children(), leader) if m.state is not State.STARTING]
        for member in members:
            if member is not leader:
                self._enlist(member, leader, again=job.again or job.resumed)
        for member in reversed(members):
            if member is leader or member.leader is not leader:
                continue
            if member.status is not None:
                self.request_stop(member)
            while member.status is not None and not self.stop_called:
                await self._pause()
            if self.stop_called:
                return
        if leader.job is not job:
            return
        if job.delay:
            self.postpone(job)
            return
        await self._start_group(members, leader)

    def _enlist(self, member: Child, leader: Child, *, again: bool) -> None:
        """Has a member follow the recovery of `leader`. Those stopped on request follow too, unless it was during this recovery."""
        if again and member.held:
            return
        member.held = False
        member.job = None
        member.leader = leader
        if member.state is State.DOWN:
            member.move(State.RESTARTING, self.now())

    async def _start_group(self, members: list[Child], leader: Child) -> None:
        for place, member in enumerate(members):
            if self.kids.get(member.key) is not member or member.state is not State.RESTARTING:
                continue
            self.launch(member, revived=True)
            while member.state in (State.STARTING, State.STOPPING) and not self.stop_called:
                await self._pause()
            if self.stop_called:
                return
            if member.job is not None and member.job.again:
                for follower in members[place + 1 :]:
                    if follower.leader is leader or follower is leader:
                        follower.leader = member
                return

    async def _stop_all(self) -> None:
        """The final stop, right to left, one at a time."""
        for child in reversed(self.children()):
            if child.status is not None:
                self.request_stop(child)
            while child.status is not None:
                await self._pause()
            if child.state is not State.DOWN:
                child.job = child.leader = None
                child.move(State.DOWN, self.now())
