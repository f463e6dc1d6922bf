"""Who leads: never two at once, soon another after a death, at once after a release."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from tests.support.memory_api import Id, MemoryApi

from anneal.kube import leader as module
from anneal.kube.errors import UnavailableError
from anneal.kube.leader import LEASE_SECONDS, Election, LeadershipLostError


@dataclass
class Time:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Ballot:
    """Two candidates for one lease."""

    api: MemoryApi = field(default_factory=MemoryApi)
    time: Time = field(default_factory=Time)

    def __post_init__(self) -> None:
        self.a, self.b = (self.candidate(name) for name in ("a", "b"))

    def candidate(self, identity: str) -> Election:
        return Election(self.api, namespace="default", name="lease", identity=identity, clock=self.time)

    @property
    def spec(self) -> dict[str, object]:
        lease = self.api.peek("Lease", "lease", "default")
        assert lease is not None
        return dict(lease["spec"])


@pytest.fixture
def ballot() -> Ballot:
    return Ballot()


async def test_the_first_one_leads_and_renews(ballot: Ballot) -> None:
    assert await ballot.a.attempt()
    assert not await ballot.b.attempt()
    assert await ballot.a.attempt()
    assert ballot.spec["holderIdentity"] == "a"
    assert ballot.spec["leaseTransitions"] == 0


async def test_a_lease_that_is_renewed_is_not_taken_however_long(ballot: Ballot) -> None:
    await ballot.a.attempt()
    for _ in range(10):
        ballot.time.now += LEASE_SECONDS - 1
        ballot.api.clock.advance(LEASE_SECONDS - 1)
        assert await ballot.a.attempt()
        assert not await ballot.b.attempt()


async def test_a_dead_leader_is_followed_after_its_lease(ballot: Ballot) -> None:
    await ballot.a.attempt()
    assert not await ballot.b.attempt(), "it cannot know yet how old the lease is"
    ballot.time.now += LEASE_SECONDS
    assert not await ballot.b.attempt()
    ballot.time.now += 1
    assert await ballot.b.attempt()
    assert ballot.spec["leaseTransitions"] == 1
    assert not await ballot.a.attempt()


async def test_a_released_lease_is_taken_at_once(ballot: Ballot) -> None:
    await ballot.a.attempt()
    await ballot.a.release()
    assert "holderIdentity" not in ballot.spec
    assert await ballot.b.attempt()


async def test_who_does_not_hold_the_lease_cannot_release_it(ballot: Ballot) -> None:
    await ballot.a.attempt()
    await ballot.b.release()
    assert ballot.spec["holderIdentity"] == "a"


async def test_of_two_who_take_it_in_the_same_moment_one_leads(ballot: Ballot) -> None:
    await ballot.a.attempt()
    await ballot.a.release()

    async def turn() -> None:
        await asyncio.sleep(0)

    ballot.api.turn = turn
    assert sorted(await asyncio.gather(ballot.a.attempt(), ballot.b.attempt())) == [False, True]


async def test_of_two_who_create_it_in_the_same_moment_one_leads(ballot: Ballot) -> None:
    async def turn() -> None:
        await asyncio.sleep(0)

    ballot.api.turn = turn
    assert sorted(await asyncio.gather(ballot.a.attempt(), ballot.b.attempt())) == [False, True]


async def test_a_leader_that_finds_another_one_stops(ballot: Ballot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    await ballot.a.attempt()
    ballot.api.forget(Id("Lease", "default", "lease"))
    await ballot.b.attempt()
    with pytest.raises(LeadershipLostError, match="another"):
        await asyncio.wait_for(ballot.a.hold(), 5)


async def test_a_leader_that_cannot_renew_stops_before_its_lease_ends(
    ballot: Ballot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    await ballot.a.attempt()

    async def turn() -> None:
        ballot.time.now += 2
        raise UnavailableError("the API server is away")

    ballot.api.turn = turn
    with pytest.raises(LeadershipLostError, match="renewed"):
        await asyncio.wait_for(ballot.a.hold(), 5)
    assert ballot.time.now < LEASE_SECONDS


async def test_a_request_that_hangs_does_not_keep_a_leader_in_office(
    ballot: Ballot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.05)
    api = MemoryApi()
    a = Election(api, namespace="default", name="lease", identity="a")
    await a.attempt()
    api.turn = asyncio.Event().wait  # type: ignore[assignment]
    with pytest.raises(LeadershipLostError, match="renewed"):
        await asyncio.wait_for(a.hold(), 5)


async def test_a_candidate_waits_out_an_api_server_that_is_away(
    ballot: Ballot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    attempts = 0

    async def turn() -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 4:
            raise UnavailableError("the API server is away")

    ballot.api.turn = turn
    await asyncio.wait_for(ballot.a.acquire(), 5)
    assert ballot.spec["holderIdentity"] == "a"
    assert ballot.a.last_contact is not None
