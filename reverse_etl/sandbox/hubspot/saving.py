"""Saving one record: its values checked, its unique ones defended, its system properties kept."""

from __future__ import annotations

from typing import Any

from reverse_etl.sandbox.hubspot import values as checks
from reverse_etl.sandbox.hubspot.errors import Body, InvalidValues, RowError
from reverse_etl.sandbox.hubspot.portal import PORTAL_ID, ObjectType, Portal, fold_email

STAGES = [
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
]

LEGACY_TYPES = {"0-1": "CONTACT", "0-2": "COMPANY", "0-3": "DEAL", "0-5": "TICKET", "0-7": "PRODUCT"}


def _fill_site(kind: ObjectType, values: dict[str, Any]) -> None:
    """A company's domain and website fill each other when one of them is missing."""
    if kind.name != "companies":
        return
    domain, website = values.get("domain"), values.get("website")
    if domain and not website:
        values["website"] = domain
    elif website and not domain:
        values["domain"] = str(website).rpartition("://")[2].partition("/")[0].removeprefix("www.")


class Saver:
    """The changes of one request; `undo` takes all of them back. `ruled`: an admin's rules bind them."""

    def __init__(self, portal: Portal, kind: ObjectType, *, ruled: bool = False) -> None:
        self._portal = portal
        self._kind = kind
        self._ruled = ruled
        self._now = portal.clock.iso()
        self._undo: list[tuple[str, dict[str, Any] | None]] = []
        self._secondary: dict[str, str] | None = None
        self.writes: list[tuple[str, str, dict[str, str]]] = []

    def create(self, properties: dict[str, Any]) -> Body:
        kind, portal = self._kind, self._portal
        sent = self._checked(properties, None)
        self._need(sent)
        record_id = portal.new_id(kind)
        self._defend(sent, record_id, None)
        values = {name: value for name, value in sent.items() if value != ""}
        if kind.name == "contacts":
            values.setdefault("lifecyclestage", "lead")
        _fill_site(kind, values)
        values |= {"hs_object_id": record_id, "createdate": self._now, kind.modified: self._now}
        kind.table.put(record_id, values, None)
        self._undo.append((record_id, None))
        self.writes.append(("create", record_id, sent))
        return self._echo(record_id, sent, values)

    def update(self, record_id: str, properties: dict[str, Any]) -> Body:
        kind = self._kind
        before = kind.table.get(record_id)
        assert before is not None  # noqa: S101  # callers resolve the id first
        sent = self._checked(properties, before)
        self._defend(sent, record_id, before)
        self._forward_only(sent, before)
        self._promote(sent, record_id, before)
        values = dict(before)
        for name, value in sent.items():
            if value == "":
                values.pop(name, None)
            else:
                values[name] = value
        _fill_site(kind, values)
        values[kind.modified] = self._now
        kind.table.put(record_id, values, before)
        self._undo.append((record_id, before))
        self.writes.append(("update", record_id, sent))
        return self._echo(record_id, sent, values)

    def undo_last(self) -> None:
        """Takes back the record that was just made."""
        record_id, _ = self._undo.pop()
        self._kind.table.remove(record_id, keep=False)
        self.writes.pop()

    def undo(self) -> None:
        for record_id, before in reversed(self._undo):
            if before is None:
                self._kind.table.remove(record_id, keep=False)
            else:
                self._kind.table.put(record_id, before, self._kind.table.get(record_id))
        if self._secondary is not None:
            self._kind.secondary = self._secondary
        self._undo.clear()
        self.writes.clear()

    def _checked(self, properties: dict[str, Any], before: dict[str, Any] | None) -> dict[str, str]:
        """The values as they would be stored; raises `InvalidValues` with everything that is wrong with them."""
        sent: dict[str, str] = {}
        problems: list[Body] = []
        plain, choices, numbers = self._kind.plain, self._kind.choices, self._kind.numbers
        rules = self._kind.rules if self._ruled else {}
        for name, given in properties.items():
            value = given if isinstance(given, str) else checks.text(given)
            if name not in rules and (
                (name in plain and len(value) <= checks.MOST_TEXT)
                or value in choices.get(name, ())
                or (name in numbers and value.isascii() and value.isdecimal())
            ):
                sent[name] = value
                continue
            try:
                sent[name] = self._value(name, value, before)
                if value and not all(rule.admits(value) for rule in rules.get(name, {}).values()):
                    raise checks.Invalid("VALIDATION_RULE", f"{value} doesn't meet the rules of {name}.")
            except checks.Invalid as invalid:
                problems.append(
                    {
                        "isValid": False,
                        "message": invalid.message,
                        "error": invalid.code,
                        "name": name,
                        "localizedErrorMessage": invalid.message,
                        "propertyValue": value,
                        "portalId": PORTAL_ID,
                    }
                )
        if problems:
            raise InvalidValues(problems)
        return sent

    def _value(self, name: str, value: str, before: dict[str, Any] | None) -> str:
        prop = self._kind.properties.get(name)
        if prop is None or prop.archived:
            raise checks.Invalid("PROPERTY_DOESNT_EXIST", f'Property "{name}" does not exist')
        if prop.calculated:
            raise checks.Invalid("READ_ONLY_VALUE", f'"{name}" is a calculated property; its value cannot be set.')
        if prop.read_only:
            raise checks.Invalid("READ_ONLY_VALUE", f'"{name}" is a read only property; its value cannot be set.')
        return checks.stored(prop, value, None if before is None else before.get(name), self._portal.external)

    def _need(self, sent: dict[str, str]) -> None:
        kind = self._kind
        needed = [*kind.all_needed, *(kind.required_by_admin if self._ruled else [])]
        missing = [name for name in needed if not sent.get(name)]
        if kind.needed and not any(sent.get(name) for name in kind.needed):
            missing = list(kind.needed)
        if missing:
            raise RowError(
                "VALIDATION_ERROR",
                f"Error creating {kind.singular}. Some required properties were not set.",
                properties=missing,
            )

    def _defend(self, sent: dict[str, str], record_id: str, before: dict[str, Any] | None) -> None:
        """Refuses a unique value that another record has."""
        kind = self._kind
        for name in kind.unique:
            value = sent.get(name)
            if not value or (before is not None and before.get(name) == value):
                continue
            owner = kind.find(name, value)
            if owner is None or owner == record_id:
                continue
            if name == "email" and before is None:
                message = f"{kind.singular.capitalize()} already exists. Existing ID: {owner}"
                raise RowError("CONFLICT", message, conflict=True, existingId=[owner])
            raise RowError("VALIDATION_ERROR", self._clash(name, value, record_id, owner))

    def _clash(self, name: str, value: str, record_id: str, owner: str) -> str:
        legacy = LEGACY_TYPES.get(self._kind.type_id)
        if legacy:
            type_text = f"ObjectTypeId{{legacyObjectType={legacy}}}"
        else:
            meta, inner = self._kind.type_id.split("-")
            type_text = f"ObjectTypeId{{metaTypeId={meta}, innerId={inner}}}"
        return (
            f"Cannot set PropertyValueCoordinates{{portalId={PORTAL_ID}, objectTypeId={type_text}, "
            f"propertyName={name}, value={value}}} on {record_id}. {owner} already has that value."
        )

    def _forward_only(self, sent: dict[str, str], before: dict[str, Any]) -> None:
        """A lifecycle stage never moves back; the answer is a success that shows the stage that was kept."""
        new, old = sent.get("lifecyclestage"), before.get("lifecyclestage")
        if new and old and new in STAGES and old in STAGES and STAGES.index(new) < STAGES.index(old):
            sent["lifecyclestage"] = old

    def _promote(self, sent: dict[str, str], record_id: str, before: dict[str, Any]) -> None:
        """A secondary address sent as `email` becomes the primary one, the former primary a secondary."""
        kind = self._kind
        email, old = sent.get("email"), before.get("email")
        if kind.name != "contacts" or not email or not old or kind.secondary.get(fold_email(email)) != record_id:
            return
        others = [other for other in before.get("hs_additional_emails", "").split(";") if other and other != email]
        if self._secondary is None:
            self._secondary = dict(kind.secondary)
        del kind.secondary[email]
        kind.secondary[old] = record_id
        sent["hs_additional_emails"] = ";".join([*others, old])

    def _echo(self, record_id: str, sent: dict[str, str], values: dict[str, Any]) -> Body:
        """A write's answer: what was sent (cleared as ""), and the system properties."""
        kind = self._kind
        shown = dict(sent)
        shown["hs_object_id"] = record_id
        shown["createdate"] = values["createdate"]
        shown[kind.modified] = values[kind.modified]
        return {
            "id": record_id,
            "properties": shown,
            "createdAt": values["createdate"],
            "updatedAt": values[kind.modified],
            "archived": False,
        }
