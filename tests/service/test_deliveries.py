"""The outbox of the webhooks: who is told of what, who may send it, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from app.domain.request import Caller, RunRequest, Webhook, WebhookEvent
from app.domain.run import Failed
from app.runs import webhooks as verbs
from app.store import deliveries
from app.store import webhooks as rows
from app.store.deliveries import Delivery, Due, Query
from app.store.engine import Tx
from tests.service.house import House, new_house

T = TypeVar("T")

URL = "https://example.com/hook"
ALL = tuple(WebhookEvent)


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    with new_house(tmp_path, database_url) as house:
        house.sql("INSERT INTO apps (id, name, workflow_id, created_at) VALUES ('app', 'app', 'w', 1)")
        yield house


def hook(house: House, *events: WebhookEvent, host: str = "example.com") -> str:
    webhook = Webhook(URL, events or ALL, host)
    return house.store.commit_blocking(lambda tx: verbs.create(tx, "app", webhook)).id


def log(house: House, query: Query = Query(100)) -> list[Delivery]:  # noqa: B008 - frozen
    return house.store.read_blocking(lambda tx: deliveries.page(tx, "app", query))


def told(house: House) -> list[str]:
    return sorted(each.event for each in log(house))


def due(house: House, *busy: str) -> list[Due]:
    return house.store.read_blocking(lambda tx: deliveries.due(tx, 1.0, busy))


def commit(house: House, unit: Callable[[Tx], T]) -> T:
    return house.store.commit_blocking(unit)


def claim(house: House, lease_s: float = 60.0) -> Delivery:
    (found,) = due(house)
    held = commit(house, lambda tx: deliveries.claim(tx, found, lease_s))
    assert held is not None
    return held


def test_every_end_is_told_and_by_what_it_was(house: House) -> None:
    hook(house)
    run_ids = {house.submit() for _ in range(3)}
    good, bad = house.claim(), house.claim()
    assert good is not None
    assert bad is not None
    house.complete(good)
    house.complete(bad, Failed("bad", "Bad"))
    done, failed = good.run_id, bad.run_id
    (stopped,) = run_ids - {done, failed}
    house.stop(stopped)
    of_run = {run_id: {each.event for each in log(house, Query(9, run_id))} for run_id in (done, failed, stopped)}
    assert of_run == {
        done: {"run.finished", "run.succeeded"},
        failed: {"run.finished", "run.failed"},
        stopped: {"run.finished", "run.stopped"},
    }


def test_a_lost_attempt_is_no_end(house: House) -> None:
    hook(house)
    house.submit()
    held = house.claim()
    assert held is not None
    house.give_back(held)
    assert told(house) == []


def test_an_accepted_run_is_told_with_it_and_to_its_own_webhook_too(house: House) -> None:
    hook(house, WebhookEvent.STARTED)
    caller = Caller("key", "app", app_webhooks=True)
    own = Webhook("https://own.example/", (WebhookEvent.STARTED, WebhookEvent.STOPPED), "own.example")
    run_id = house.submit(posting=RunRequest(caller, {}, "user", webhook=own))
    assert sorted((each.event, each.url) for each in log(house)) == [("run.started", URL), ("run.started", own.url)]
    house.stop(run_id)
    assert told(house) == ["run.started", "run.started", "run.stopped"]


def test_other_apps_and_disabled_webhooks_hear_nothing(house: House) -> None:
    gone = hook(house)
    house.sql("INSERT INTO apps (id, name, workflow_id, created_at) VALUES ('b', 'b', 'w', 1)")
    commit(house, lambda tx: verbs.create(tx, "b", Webhook(URL, ALL, "example.com")))
    commit(house, lambda tx: rows.disable(tx, "run", gone, "410"))
    house.stop(house.submit())
    assert told(house) == []


def test_a_claimed_delivery_is_nobody_elses_until_its_lease_runs_out(house: House) -> None:
    hook(house, WebhookEvent.FINISHED)
    house.stop(house.submit())
    (found,) = due(house)
    first = claim(house, lease_s=-1)
    assert commit(house, lambda tx: deliveries.claim(tx, found, 60)) is None, "it was claimed as it was seen before"
    second = claim(house)
    assert (first.id, first.attempts, second.attempts) == (second.id, 1, 2)
    assert due(house) == []
    assert not commit(house, lambda tx: deliveries.settle(tx, first, "delivered", 200, None))
    assert commit(house, lambda tx: deliveries.settle(tx, second, "delivered", 200, None))
    assert [(each.state, each.next_at) for each in log(house)] == [("delivered", None)]


def test_what_was_put_off_is_due_later(house: House) -> None:
    hook(house, WebhookEvent.FINISHED)
    house.stop(house.submit())
    held = claim(house)
    commit(house, lambda tx: deliveries.settle(tx, held, "pending", 500, "no", 3600.0))
    assert due(house) == []
    assert commit(house, lambda tx: deliveries.send_again(tx, "app", held.id))
    again = claim(house)
    assert (again.last_status, again.last_error, again.attempts) == (500, "no", 2)
    assert not commit(house, lambda tx: deliveries.send_again(tx, "app", held.id)), "it is being sent"
    assert commit(house, deliveries.release) == 1
    assert claim(house).attempts == 3


def test_busy_hosts_are_passed_over(house: House) -> None:
    hook(house, WebhookEvent.FINISHED, host="busy.example")
    hook(house, WebhookEvent.FINISHED, host="free.example")
    house.stop(house.submit())
    assert {each.host for each in due(house)} == {"busy.example", "free.example"}
    assert [each.host for each in due(house, "busy.example")] == ["free.example"]


def test_a_webhook_that_wants_no_more_drops_what_waits(house: House) -> None:
    first, second = hook(house, WebhookEvent.FINISHED), hook(house, WebhookEvent.FINISHED)
    run_id = house.submit()
    house.stop(run_id)
    commit(house, lambda tx: rows.disable(tx, run_id, first, "410"))
    assert commit(house, lambda tx: rows.delete_webhook(tx, "app", second))
    assert {(each.state, each.last_error) for each in log(house)} == {
        ("failed", "410"),
        ("failed", "The webhook was deleted."),
    }
    assert due(house) == []


def test_the_secret_stays_until_it_is_rotated_and_the_old_one_for_a_while(house: House) -> None:
    first = commit(house, lambda tx: verbs.secrets(tx, "app"))
    assert commit(house, lambda tx: verbs.secrets(tx, "app")) == first
    second = commit(house, lambda tx: verbs.rotate(tx, "app"))
    assert (second.old, second.current == first.current) == (first.current, False)
    commit(house, lambda tx: rows.rotate_secret(tx, "app", "whsec_third", -1.0))
    third = house.store.read_blocking(lambda tx: rows.secrets_of(tx, "app"))
    assert third == rows.Secrets("whsec_third")


def test_the_log_forgets_what_is_over_and_old(house: House) -> None:
    hook(house, WebhookEvent.FINISHED)
    own = Webhook(URL, (WebhookEvent.FINISHED,), "example.com")
    for _ in range(3):
        house.stop(house.submit(posting=RunRequest(Caller("key", "app"), {}, "user", webhook=own)))
    (open_one, *rest) = log(house)
    for each in rest:
        house.sql("UPDATE deliveries SET next_at = NULL, state = 'delivered' WHERE id = :id", id=each.id)
    assert commit(house, lambda tx: deliveries.forget(tx, 3600.0, 2)) == 0
    assert commit(house, lambda tx: deliveries.forget(tx, -60.0, 2)) == 2
    assert commit(house, lambda tx: deliveries.forget(tx, -60.0, 100)) == 3
    assert [each.id for each in log(house)] == [open_one.id]
    assert commit(house, lambda tx: rows.forget_run_webhooks(tx, 3600.0, 2)) == 0
    assert commit(house, lambda tx: rows.forget_run_webhooks(tx, -60.0, 2)) == 2
