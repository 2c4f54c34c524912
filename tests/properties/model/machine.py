"""The model's rules: what people, the warehouse, the destination and the machine may do to a sync, in any order."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from reverse_etl.errors import AuthError, InDoubt, Unavailable
from reverse_etl.report import RunReport, RunStatus
from reverse_etl.testing import MemoryAccount, MemoryParents
from reverse_etl.testing.clock import MIDDAY
from tests.properties.model.definition import DOMAINS, FIELDS, Definition, Entry, Row, folded
from tests.properties.model.happenings import EDITS, IDS, REGIONS, TROUBLES, WAITS, WHIMS, WISHES, Edit, Trouble
from tests.properties.model.promises import AtRest, Offered, Witness, balanced
from tests.properties.model.reckoning import Reckoned, Reckoning, Wish
from tests.properties.model.stage import Fate, Killed, Memory, Stage


class SyncMachine(RuleBasedStateMachine):
    """Subclasses say what definitions a sync begins with, what of it may change, and what the destination is like."""

    definitions: ClassVar[st.SearchStrategy[Definition]] = st.just(Definition())
    changes: ClassVar[Sequence[tuple[str, Any]]] = ()
    repeatable: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        account = MemoryAccount(
            *FIELDS,
            batch_size=2,
            in_flight=1,
            repeatable=self.repeatable,
            parents=MemoryParents(companies=("domain",)),
        )
        for domain in DOMAINS[:-1]:
            account.parents.add("companies", domain=domain)
        self.stage = Stage(Path(self.folder.name), account, self.new_state())
        self.witness = Witness(account)
        self.rows: list[Row] = []
        self.memory = Memory()
        self.fate = Fate()
        self.signatures: dict[str, tuple[str, ...]] = {}
        self.newest = MIDDAY - timedelta(days=2)
        self.backups: list[Path] = []
        self.restored = False
        self.unseen: set[str] = set()  # keys whose rows a cursor may have passed: they were doubled, or lost a copy

    def new_state(self) -> str | None:
        """The URL of a state that nobody has used; None for one in the project's folder."""
        return None

    def teardown(self) -> None:
        try:
            self.heal()
        finally:
            self.stage.close()
            self.folder.cleanup()

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.define(data.draw(self.definitions))

    def define(self, definition: Definition) -> None:
        self.definition = definition
        self.stage.define(definition)

    # --- the warehouse ------------------------------------------------------------------------------------------------

    def _edit(self, edit: Edit) -> None:
        key = Row(edit.region if self.definition.composite else "a", edit.id, None)
        match edit.what:
            case "put":
                email = self._address(edit.id, key.region or "", edit.email)
                told = replace(key, email=email, plan=edit.plan, seats=edit.seats, company=edit.company)
                self._replace(replace(told, seen=self._moment(edit.when)))
            case "drop":
                self.rows = [row for row in self.rows if (row.region, row.id) != (key.region, key.id)]
            case "double":
                self._double(edit)
            case "nameless":
                self.rows = [row for row in self.rows if row.id is not None]
                if edit.when is not None:
                    self.rows.append(Row("a", None, "nobody@x.io", "free", 1.0, self._moment(0)))

    def _double(self, edit: Edit) -> None:
        for row in [row for row in self.rows if row.id == edit.id][:1]:
            self.rows.append(replace(row, plan=edit.plan, seen=self._moment(0)))
            self.unseen.add(self.definition.key_of(row) or "")

    def _replace(self, row: Row) -> None:
        key = self.definition.key_of(row)
        if sum(self.definition.key_of(other) == key for other in self.rows) > 1:
            self.unseen.add(key or "")
        elif row.seen is not None:
            self.unseen.discard(key or "")
        self.rows = [other for other in self.rows if self.definition.key_of(other) != key] + [row]

    def _address(self, id: int, region: str, kind: str) -> str | None:
        place = "" if not self.definition.composite or region == "a" else "b"
        own = f"p{id}{place}@x.io"
        return {"own": own, "upper": own.upper(), "next": f"p{id + 1}{place}@x.io", "none": None, "blank": " "}[kind]

    def _moment(self, minutes: int | None) -> Any:
        if minutes is None:
            return None
        moment = min(self.newest + timedelta(minutes=minutes), self.stage.clock.now())
        self.newest = max(self.newest, moment)
        return moment

    # --- troubles -----------------------------------------------------------------------------------------------------

    def _trouble(self, trouble: Trouble) -> None:
        account, call, applied = self.stage.account, trouble.call, trouble.applied
        match trouble.what.split():
            case [what, "links"]:
                self._trouble_links(what, trouble)
            case ["refuse", *batches]:
                refuse = account.refuse_batches if batches else account.refuse
                refuse(lambda record: record.get("plan") == trouble.plan)
            case ["leave", "out"]:
                key = self.definition.key_of(Row("a", trouble.id, None)) or ""
                account.leave_out(key, times=call, applied=applied)
            case ["lose"]:
                account.fail(InDoubt("cut off"), call=call, applied=applied)
            case ["come", "late"]:
                account.fail(InDoubt("cut off"), call=call, late=True)
            case ["be", "unavailable"]:
                account.fail(Unavailable("503"), call=call, times=1 if applied else 10)
            case ["revoke"]:
                account.fail(AuthError("revoked"), call=call)
            case ["go", "down"]:
                account.go_down(Unavailable("down"))
            case ["die", where]:
                self._die(trouble, sending=where == "sending")

    def _trouble_links(self, what: str, trouble: Trouble) -> None:
        parents = self.stage.account.parents
        if what == "lose":
            parents.fail(InDoubt("cut off"), call=trouble.call, applied=trouble.applied)
        else:
            parents.refuse(lambda company: company["domain"] == DOMAINS[trouble.call - 1])

    def _die(self, trouble: Trouble, *, sending: bool) -> None:
        if sending:
            self.stage.account.fail(Killed(), call=trouble.call, applied=trouble.applied)
        else:
            self.fate = Fate(trouble.moment, before=trouble.applied)

    # --- commands -----------------------------------------------------------------------------------------------------

    @rule(edits=st.lists(EDITS, max_size=4), wait=WAITS, wish=WISHES, approves=st.booleans())
    def sync(self, edits: list[Edit], wait: timedelta, wish: Wish, approves: bool) -> None:
        """The warehouse changes, time passes, the sync runs; what the destination was told before still holds."""
        for edit in edits:
            self._edit(edit)
        self.stage.wait(wait)
        report = self._run(wish)
        if report is not None and report.status == RunStatus.GUARDED and approves:
            self._run(wish, approve=report.plan_id)

    @rule(
        edits=st.lists(EDITS, max_size=4), wait=WAITS, wish=WISHES, troubles=st.lists(TROUBLES, min_size=1, max_size=2)
    )
    def sync_in_trouble(self, edits: list[Edit], wait: timedelta, wish: Wish, troubles: list[Trouble]) -> None:
        self._obey()
        for trouble in troubles:
            self._trouble(trouble)
        self.sync(edits, wait, wish, approves=True)

    sync_in_more_trouble = rule(
        edits=st.lists(EDITS, max_size=3), wait=WAITS, wish=st.just(Wish()), troubles=st.lists(TROUBLES, max_size=3)
    )(lambda self, **drawn: self.sync_in_trouble(**drawn))

    @rule(edits=st.lists(EDITS, min_size=1, max_size=3), wish=WISHES.filter(lambda wish: not wish.retry))
    def dry_run_then_run(self, edits: list[Edit], wish: Wish) -> None:
        """A dry run changes nothing, and tells what the run after it finds."""
        for edit in edits:
            self._edit(edit)
        writes, before = len(self.stage.account.writes), self.memory
        self._lay()
        shown = self.stage.run(Fate(), dry_run=True, full=wish.full, limit=wish.limit)
        assert shown is not None
        assert len(self.stage.account.writes) == writes
        self._look()
        assert self.memory == before, "a dry run changed what is remembered"
        balanced(shown, None)
        if shown.status == RunStatus.FAILED:
            return
        found = self._reckoned(wish, for_show=True)
        assert vars(shown.rows) == found.counts, f"{shown.rows} was shown instead of {found.counts}"
        report = self._run(wish)
        if report is not None and (report.rows.read or report.error is None):
            assert vars(shown.rows) == vars(report.rows), f"{shown.rows} was shown, then {report.rows} was found"

    @rule(id=IDS, region=REGIONS)
    def explain(self, id: int, region: str) -> None:
        key = self.definition.key_of(Row(region, id, None)) or ""
        self._lay()
        told = self.stage.project().explain("people", key)
        there = [row for row in self.rows if self.definition.key_of(row) == key]
        if len(there) != 1:
            assert told.state == ("invalid" if there else "absent"), told
        elif told.state == "unchanged":
            assert not self._reckoning(Wish()).differs(key, there[0]) or key in self.memory.settling, told
        else:
            assert told.state in ("pending", "rejected", "invalid", "in_doubt"), told
            assert self._reckoning(Wish()).differs(key, there[0]), told

    # --- people -------------------------------------------------------------------------------------------------------

    @rule(whim=WHIMS, id=IDS, hours=st.integers(1, 20))
    def somebody(self, whim: str, id: int, hours: int) -> None:
        """People and their machines do what they like."""
        {
            "delete a record": lambda: self._delete_a_record(id),
            "make a record": lambda: self._make_a_record(id),
            "edit a record": lambda: self._edit_a_record(id, seats=float(hours)),
            "rename a record": lambda: self._edit_a_record(id, email=f"somebody{hours}@x.io"),
            "reset": self._reset,
            "forget": lambda: self._forget(id),
            "back up": self._back_up,
            "restore": self._restore,
            "set the clock back": lambda: self.stage.clock.set_back(timedelta(hours=hours)),
            "land": self.stage.account.land,
            "obey": self._obey,
            "make a company": self._make_a_company,
        }[whim]()

    def _back_up(self) -> None:
        if self.memory.state is not None and not self.stage.shared:
            self.backups.append(self.stage.backup())

    def _delete_a_record(self, nth: int) -> None:
        for record_id in sorted(self.stage.account.records)[nth - 1 : nth]:
            del self.stage.account.records[record_id]
            self.witness.deleted.add(record_id)

    def _edit_a_record(self, nth: int, **values: Any) -> None:
        for record_id in sorted(self.stage.account.records)[nth - 1 : nth]:
            self.witness.edit(record_id, values)

    def _make_a_record(self, id: int) -> None:
        email = f"p{id}@x.io"
        if email not in {str(record.get("email")).lower() for record in self.stage.account.records.values()}:
            self.stage.account.add(email=email, plan="pro")

    def _make_a_company(self) -> None:
        parents = self.stage.account.parents
        if len(parents.records["companies"]) < len(DOMAINS):
            parents.add("companies", domain=DOMAINS[-1])

    def _obey(self) -> None:
        self.stage.account.obey()
        self.stage.account.parents.obey()

    def _reset(self) -> None:
        self.stage.project().reset("people")
        self._look()
        assert not self.memory.known

    def _forget(self, id: int) -> None:
        key = self.definition.key_of(Row("a", id, None)) or ""
        known = key in self.memory.known or self.memory.row(key) is not None
        assert self.stage.project().forget("people", key) == known
        self._look()
        assert key not in self.memory.known

    def _restore(self) -> None:
        if self.backups:
            self.stage.restore(self.backups[-1])
            self.restored = True
            self._look()

    @rule(edit=st.sampled_from(["seats off", "seats on", "chairs", "default", "ignore", "silent", "plain"]))
    def edit_the_mapping(self, edit: str) -> None:
        mapping = dict(self.definition.mapping)
        match edit:
            case "seats off":
                mapping.pop("seats", None)
            case "seats on":
                mapping["seats"] = Entry("seats")
            case "chairs":  # renamed
                mapping.pop("seats", None)
                mapping["chairs"] = Entry("seats")
            case "default":
                mapping["plan"] = Entry("plan", default="free")
            case "ignore":
                mapping["plan"] = Entry("plan", nulls="ignore")
            case _:
                mapping["plan"] = Entry("plan", compare=edit != "silent")
        self.define(replace(self.definition, mapping=mapping))

    @precondition(lambda self: self.changes)
    @rule(data=st.data())
    def edit_the_definition(self, data: st.DataObject) -> None:
        name, value = data.draw(st.sampled_from(self.changes))
        self.define(replace(self.definition, **{name: value}))

    # --- at rest ------------------------------------------------------------------------------------------------------

    @rule()
    def heal(self) -> None:
        """All troubles end: two clean runs later the destination holds what the rows say, and nothing is sent again."""
        if not hasattr(self, "definition"):
            return
        self._obey()
        self.stage.account.land()
        self.fate = Fate()
        self.stage.wait(timedelta(hours=25))
        late = [row.next_at for row in self.memory.listed.values() if row.next_at is not None]
        self.stage.clock.advance(max([moment - self.stage.clock.now() for moment in late] + [timedelta()]))
        self._clean_run(Wish(full=self.restored))
        self._clean_run(Wish())
        while self._conflicts() or self._undecided():
            self._clean_run(Wish(retry=True))
        self.restored = False
        found = self._reckoned(Wish())
        AtRest(self.definition, found, self.memory, self.witness, self.rows).is_right(self._skipped())
        self._is_idle(found)

    def _clean_run(self, wish: Wish) -> None:
        report = self._run(wish)
        assert report is not None
        if report.status == RunStatus.GUARDED:
            report = self._run(wish, approve=report.plan_id)
        assert report is not None
        assert report.error is None, report.error

    def _conflicts(self) -> bool:
        """Whether a row still waits for a match value that another record had, and has no longer."""
        waiting = [row for row in self.memory.listed.values() if row.code == "DUPLICATE_VALUE"]
        held = {folded(record.get("email")) for record in self.stage.account.records.values()}
        return any(folded(row.values["email"]) not in held for row in waiting)

    def _undecided(self) -> bool:
        """Whether a row is held until a person says that it may be sent once more."""
        held = any(row.code == "in_doubt_held" for row in self.memory.listed.values())
        return held and self.definition.in_doubt == "hold"

    def _skipped(self) -> set[str]:
        return self.unseen if self.definition.cursor else set()

    def _is_idle(self, found: Reckoned) -> None:
        writes = len(self.stage.account.writes)
        report = self._run(Wish())
        assert report is not None
        assert len(self.stage.account.writes) == writes, "an idle run sent something"
        if not found.invalid and not found.held:
            assert report.requests == 0, "an idle run made a call"

    # --- inside -------------------------------------------------------------------------------------------------------

    def _lay(self) -> None:
        self.stage.lay(self.rows)

    def _run(self, wish: Wish, approve: str | None = None) -> RunReport | None:
        """One run, and all that must hold of it."""
        self._lay()
        found, before = self._reckoned(wish), self.memory
        account, fate = self.stage.account, self.fate
        self.fate = Fate()
        first, linked = len(account.writes), len(account.parents.calls)
        if wish.retry:
            report = self.stage.retry(fate)
        else:
            report = self.stage.run(fate, full=wish.full, limit=wish.limit, approve=approve)
        self._look()
        if report is None:
            self.witness.buries(self.memory)
        Offered(self.definition, found, before, account.writes[first:], account.parents.calls[linked:]).is_right(report)
        if report is not None:
            planned = report.error is None or report.rows.read or report.status == RunStatus.GUARDED
            if planned:
                assert vars(report.rows) == found.counts, f"{report.rows} was found instead of {found.counts}"
            assert (report.status == RunStatus.GUARDED) == (found.guarded and approve is None) or not planned, report
            balanced(report, found if planned else None)
        return report

    def _reckoning(self, wish: Wish, *, for_show: bool = False) -> Reckoning:
        return Reckoning(
            self.definition, self.rows, self.memory, self.stage.clock.now(), self.signatures, wish, for_show
        )

    def _reckoned(self, wish: Wish, *, for_show: bool = False) -> Reckoned:
        return self._reckoning(wish, for_show=for_show).reckoned()

    def _look(self) -> None:
        before, self.memory = self.memory, self.stage.remembered()
        self.witness.hears(self.memory)
        for slot, row in self.memory.listed.items():
            was = before.listed.get(slot)
            if was is None or (was.attempts, was.last_at) != (row.attempts, row.last_at):
                self.signatures[slot] = tuple(self.definition.compared)
