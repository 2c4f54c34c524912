"""The tables of the SQL store. A column's meaning stands beside it; times are RFC 3339 text in UTC."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),  # schema_version, project_id
    sa.Column("value", sa.Text, nullable=False),
)

syncs = sa.Table(
    "syncs",
    metadata,
    sa.Column("sync", sa.Text, primary_key=True),
    sa.Column("identity", sa.Text, nullable=False),  # JSON: key columns, destination type, object, match
    sa.Column("account", sa.Text),  # portal or org id; NULL until the first write
    sa.Column("key_kinds", sa.Text),  # JSON list: text, number or boolean, for each key column
    sa.Column("cursor_value", sa.Text),  # the source's exact value
    sa.Column("cursor_type", sa.Text),  # its Arrow type
    sa.Column("last_run_at", sa.Text),  # start of the last run that counts for :last_run_at
    sa.Column("last_full_at", sa.Text),  # start of the last run that read completely
    sa.Column("folded_seq", sa.BigInteger, nullable=False),  # newest journal entry known to be in the snapshot
    sa.Column("known_rows", sa.BigInteger, nullable=False),  # rows in the snapshot at the last fold
    sa.Column("incarnation", sa.Text),  # a new one with every first run: copies made before a reset are none any more
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("sync", sa.Text, nullable=False),
    sa.Column("started_at", sa.Text, nullable=False),
    sa.Column("status", sa.Text),  # NULL while it runs, or when it was killed
    sa.Column("report", sa.Text, nullable=False),  # JSON, as `sync --json` prints it
    sa.Index("runs_by_sync", "sync", "started_at"),
)

journal = sa.Table(
    "journal",
    metadata,
    sa.Column("sync", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),  # Arrow IPC: rows acknowledged together
)

bases = sa.Table(  # PostgreSQL only: a snapshot's file as it was at one number of the journal
    "bases",
    metadata,
    sa.Column("sync", sa.Text, primary_key=True),
    sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

leases = sa.Table(  # PostgreSQL only: who holds a sync, by the database's clock
    "leases",
    metadata,
    sa.Column("sync", sa.Text, primary_key=True),
    sa.Column("token", sa.BigInteger, nullable=False),  # rises with every holder
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
)

limiters = sa.Table(  # PostgreSQL only: what answers told of an account's windows, by any process
    "limiters",
    metadata,
    sa.Column("limiter", sa.Text, primary_key=True),
    sa.Column("requests", sa.Integer),
    sa.Column("per_seconds", sa.Float),
    sa.Column("not_before", sa.DateTime(timezone=True)),  # the pause that was asked for
)

places = sa.Table(  # PostgreSQL only: who holds how many places in a limiter's window, by the database's clock
    "places",
    metadata,
    sa.Column("limiter", sa.Text, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("answered", sa.Boolean, nullable=False),  # false: given out, and perhaps not used yet
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("held_until", sa.DateTime(timezone=True), nullable=False),
    sa.Index("places_by_limiter", "limiter", "held_until"),
)

under_way = sa.Table(  # PostgreSQL only: keys that a slot of the sync's holder is sending
    "under_way",
    metadata,
    sa.Column("sync", sa.Text, primary_key=True),
    sa.Column("slot", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("token", sa.BigInteger, nullable=False),  # of the holder's lease
    sa.Column("since", sa.DateTime(timezone=True), nullable=False),  # by the database's clock
    sa.Column("body", sa.LargeBinary, nullable=False),  # Arrow IPC
)

refused = sa.Table(
    "refused",
    metadata,
    sa.Column("sync", sa.Text, primary_key=True),
    sa.Column("slot", sa.Text, primary_key=True),  # `k` or `s` + the key's text; `n` + a reason for rows without a key
    sa.Column("kind", sa.Text, nullable=False),  # rejected | invalid | in_doubt | settling
    sa.Column("key", sa.Text),  # JSON: its text and its value; NULL for rows without a key
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("field", sa.Text),
    sa.Column("request_id", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("first_at", sa.Text, nullable=False),
    sa.Column("last_at", sa.Text, nullable=False),
    sa.Column("next_at", sa.Text),
    sa.Column("payload_hash", sa.Text),  # of the values that were refused: other values are offered at once
    sa.Column("row_values", sa.Text, nullable=False),  # JSON by destination field
    sa.Column("cursor_value", sa.Text),  # :cursor in force when the row was first refused
    sa.Column("cursor_type", sa.Text),
    sa.Column("rows", sa.Integer, nullable=False),  # 1, or how many rows share an entry without a key
)

outbox = sa.Table(  # what waits to be written back to the warehouse
    "outbox",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("entry", sa.Integer, primary_key=True, autoincrement=False),  # 0: the run itself
    sa.Column("sync", sa.Text, nullable=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("body", sa.LargeBinary),  # Arrow IPC: what became of rows
    sa.Index("outbox_by_sync", "sync", "at"),
)

plans = sa.Table(
    "plans",
    metadata,
    sa.Column("plan_id", sa.Text, primary_key=True),
    sa.Column("sync", sa.Text, nullable=False),
    sa.Column("made_at", sa.Text, nullable=False),
    sa.Column("rows", sa.LargeBinary, nullable=False),  # sorted 64-bit fingerprints of guarded keys and payloads
    sa.Column("used_at", sa.Text),
)

memory = sa.Table(
    "memory",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),  # a destination connection
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
