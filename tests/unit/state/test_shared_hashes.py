"""`values: hashes` with the state in PostgreSQL: no acknowledged value stays in the database or on any machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr

from reverse_etl.errors import StateError
from reverse_etl.model import Operation
from reverse_etl.state.forgetting import forget
from tests.house import House, sync

ADA, BEN = (1, "ada@secret.io", "free"), (2, "ben@secret.io", "gold")
FIRST, SECOND = (SecretStr(Fernet.generate_key().decode()) for _ in range(2))
Machine = Callable[..., House]


@pytest.fixture
def machine(tmp_path: Path, postgres: str) -> Machine:
    """Machines that share a state, a warehouse and a CRM."""
    first: list[House] = []

    def another(name: str, *, hashes: bool = True, keys: Sequence[SecretStr] = ()) -> House:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        made = House(root, sync(), crm=first[0].crm if first else None)
        made.url, made.hashes, made.keys, made.runs = postgres, hashes, keys, 100 * len(first)
        if first:
            made.warehouse, made.clock = first[0].warehouse, first[0].clock
        first.append(made)
        return made

    return another


def kept(at: House) -> bytes:
    """Every byte that the database and one machine hold."""
    engine = sa.create_engine(at.url, poolclass=sa.pool.NullPool)
    found = [path.read_bytes() for path in at.root.rglob("*") if path.is_file()]
    with engine.connect() as connection:
        for table in set(sa.inspect(connection).get_table_names()) - {"leases"}:
            for row in connection.exec_driver_sql(f'SELECT * FROM "{table}"'):
                found += [bytes(value) if isinstance(value, bytes) else str(value).encode() for value in row]
    return b"\n".join(found)


def test_changes_are_told_and_no_acknowledged_value_is_kept(machine: Machine) -> None:
    here = machine("here")
    here.people(ADA, BEN)
    here.go()
    here.idle()
    here.people((1, "ada@secret.io", "platinum-plan"), BEN)
    report = here.go()
    assert (report.rows.changed, here.crm.sent()[-1][2]) == (1, {"plan": "platinum-plan"})
    assert not [word for word in (b"secret.io", b"platinum-plan") if word in kept(here)]


def test_another_machine_has_the_same_digests(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    here.people(ADA, BEN)
    here.go()
    there.idle()
    here.people((1, "ada@secret.io", "pro"), BEN)
    assert (there.go().rows.changed, here.crm.sent()[-1][0]) == (1, Operation.UPDATE)
    here.idle()


@pytest.mark.parametrize("turns", ["here", "there", "nowhere yet"])
def test_values_of_before_go_with_the_first_run_on_whichever_machine(machine: Machine, turns: str) -> None:
    """Its copy is up to date, behind the journal, or not there at all."""
    here, there = machine("here", hashes=False), machine("there", hashes=False)
    here.people(ADA)
    here.go()
    if turns == "there":
        there.people(ADA)
        there.idle()
    here.people(ADA, BEN)
    here.go()
    assert b"secret.io" in kept(here)
    turned = here if turns == "here" else there
    turned.hashes = True
    turned.idle()
    assert b"secret.io" not in kept(turned)
    assert len(turned.known()) == 2
    turned.idle()


def test_a_key_can_be_forgotten_on_a_machine_that_never_ran_it(machine: Machine) -> None:
    here, there = machine("here"), machine("there")
    here.people((4711, "ada@secret.io", "free"), BEN)
    here.go()
    with closing(there.ledger()) as ledger:
        assert forget(ledger, "4711", "run-forget", there.clock.now())
    assert b"4711" not in kept(there)
    assert list(there.known()) == ["2"]


def test_the_digests_key_is_sealed_and_opened_with_the_project_s(machine: Machine) -> None:
    here = machine("here", keys=[FIRST])
    here.people(ADA)
    here.go()
    engine = sa.create_engine(here.url, poolclass=sa.pool.NullPool)
    query = sa.text("SELECT value FROM memory WHERE name = 'digest_key'")

    def sealed() -> str:
        with engine.connect() as connection:
            return str(connection.scalar(query))

    before = sealed()
    assert before.startswith("fernet:")
    there = machine("there", keys=[SECOND, FIRST])
    assert there.go(dry_run=True).rows.unchanged == 1
    assert sealed() == before, "a dry run has written"
    there.idle()
    assert sealed() != before, "it is sealed with the newest key"
    machine("third", keys=[SECOND]).idle()
    keyless = machine("keyless")
    with closing(keyless.ledger()) as ledger, pytest.raises(StateError, match="no key is configured"):
        ledger.known.digests()
