"""S9 to S13, S17: files that try to cost or reach something, addresses in disguise, SQL that writes, hostile names."""

from __future__ import annotations

import re
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import anyio
import duckdb
import psycopg
import pytest
from pydantic import BaseModel, SecretStr
from sqlalchemy.engine import make_url

from reverse_etl.daemon.channels import Undelivered, _address, look_up
from reverse_etl.destinations.hubspot.paths import Paths
from reverse_etl.destinations.salesforce import soql
from reverse_etl.errors import PluginError, SourceError, Unavailable
from reverse_etl.model import Field, FieldType, Query
from reverse_etl.protocols import Source
from reverse_etl.sources.duckdb import DuckDBSource
from reverse_etl.sources.postgres import PostgresSource
from reverse_etl.sources.sqlite import SqliteSource
from reverse_etl.urls import is_public
from reverse_etl.wire import Wire
from tests.house import House, mapping, sync
from tests.unit.daemon.test_channels import _certificate

# --- S9 ---------------------------------------------------------------------------------------------------------------

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
BOMBS = {
    "aliases": LAUGHS,
    "merge keys": "a: &a {k: v}\n" + "b:\n  <<: [" + ", ".join(["*a"] * 10_000) + "]\n",
    "a list that holds itself": "a: &a [*a]\n",
    "nesting": "a: " + "[" * 50_000 + "]" * 50_000,
    "nesting by dashes": "- " * 100_000 + "x",
    "many keys": "".join(f"k{number}: v\n" for number in range(25_000)),
    "a key of many words": "? " + "[" * 20_000 + "\n",
    "long": "a: '" + "x" * 10_000_000 + "'",
    "tags": "a: !!python/object/apply:os.system ['touch pwned']\n",
    "numbers": "a: " + "9" * 200_000 + "\n",
    "folded": "a: >\n" + "  x\n\n" * 40_000,
}
READ = """
import resource, sys, time
from pathlib import Path
from reverse_etl.config.files import load
from reverse_etl.errors import ConfigError
began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load(Path(sys.argv[1]), {})
except ConfigError as refused:
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(len(refused.problems), time.process_time() - began, more)
"""


@pytest.mark.parametrize("bomb", BOMBS)
def test_S09_a_file_that_wants_to_cost_something_is_refused_at_once(tmp_path: Path, bomb: str) -> None:
    (tmp_path / "syncs").mkdir()
    (tmp_path / "reverse_etl.yml").write_text("sources: {}\n")
    (tmp_path / "syncs/bomb.yml").write_text(BOMBS[bomb])
    said = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout.split()
    problems, seconds, kilobytes = int(said[0]), float(said[1]), int(said[2])
    assert 1 <= problems <= 210
    assert seconds < 1.0
    assert kilobytes < 100 * 1024
    assert not (tmp_path / "pwned").exists()


# --- S11 --------------------------------------------------------------------------------------------------------------

DISGUISED = [
    *("2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1"),  # this machine
    *("2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518"),  # metadata of a cloud
    *("0xa000001", "10.1", "192.168.257", "0300.0250.1.1", "0"),
]


@pytest.mark.parametrize("host", DISGUISED)
def test_S11_an_address_in_another_spelling_is_what_it_resolves_to(host: str) -> None:
    with pytest.raises(Undelivered, match="private network"):
        _address(host, 443, look_up)


NOT_PUBLIC = [
    *(
        "127.0.0.1",
        "127.255.255.254",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104
    ),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192", "192.88.99.1", "198.18.0.1", "224.0.0.1", "240.0.0.1"),
    *("255.255.255.255", "192.0.2.1", "198.51.100.1", "203.0.113.1"),
    *("::1", "::", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "100::1", "2001:db8::1", "3fff::1"),
    *("::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1"),
    *(
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2001:0:7f00:1::1",
        "2a00:1450::5efe:10.0.0.1",
        "2a00:1450::200:5efe:a00:1",
    ),
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_S11_no_special_address_counts_as_public(address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(Undelivered, match="private network"):
        _address("hooks.example.com", 443, lambda host, port: ["93.184.215.14", address])


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2a00:1450:4001::200e", "64:ff9b::5db8:d70e", "::ffff:93.184.215.14"]
)
def test_S11_an_address_of_the_internet_is_taken(address: str) -> None:
    assert is_public(ip_address(address))
    assert _address("hooks.example.com", 443, lambda host, port: [address]) == address


def test_S11_a_name_is_looked_up_once_and_what_it_means_later_does_not_count() -> None:
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    assert _address("rebinding.example.com", 443, rebinding) == "93.184.215.14"
    assert asked == ["rebinding.example.com"]


# --- S12 --------------------------------------------------------------------------------------------------------------


class Config(BaseModel):
    name: str = "warehouse"
    url: SecretStr
    external_access: bool = False


def read(source: Source, sql: str) -> list[Any]:
    with closing(source), source.read(Query(sql, {})) as batches:
        return [row for batch in batches for row in batch.to_pylist()]


@pytest.fixture
def duck(tmp_path: Path) -> Callable[[], Source]:
    with duckdb.connect(str(tmp_path / "w.duckdb")) as connection:
        connection.execute("create table t as select 1 as v")
    (tmp_path / "secret.csv").write_text("secret\ncanary\n")
    return lambda: DuckDBSource(Config(url=SecretStr(f"duckdb:///{tmp_path / 'w.duckdb'}")))


@pytest.fixture
def lite(tmp_path: Path) -> Callable[[], Source]:
    with closing(sqlite3.connect(tmp_path / "w.sqlite")) as connection:
        connection.execute("create table t (v)")
        connection.execute("insert into t values (1)")
        connection.commit()
    return lambda: SqliteSource(Config(url=SecretStr(f"sqlite:///{tmp_path / 'w.sqlite'}")))


WRITING = [
    *("insert into t values (2)", "update t set v = 2", "delete from t", "drop table t", "create table u (v int)"),
    *("select v from t; drop table t", "select v from t; select v from t", "begin; drop table t; commit", ""),
    *("vacuum", "-- select\ndrop table t", "/* select */ delete from t", "(select 1); delete from t"),
    "with gone as (delete from t returning v) select v from gone",
]


@pytest.mark.parametrize("sql", WRITING)
def test_S12_duckdb_takes_one_select_and_nothing_else(duck: Callable[[], Source], sql: str) -> None:
    with pytest.raises(SourceError):
        read(duck(), sql)
    assert read(duck(), "select v from t") == [{"v": 1}]


REACHING = [
    *(
        "select * from read_csv('FOLDER/secret.csv')",
        "select * from 'FOLDER/secret.csv'",
        "select * from glob('FOLDER/*')",
    ),
    *(
        "select * from read_text('FOLDER/secret.csv')",
        "select * from read_blob('/etc/passwd')",
        "from sniff_csv('/etc/passwd')",
    ),
    *("copy t to 'FOLDER/out.csv'", "attach 'FOLDER/other.duckdb' as o", "install httpfs", "load httpfs"),
    *("set enable_external_access = true", "pragma enable_external_access = true", "set lock_configuration = false"),
    *(
        "reset enable_external_access",
        "call enable_logging()",
        "export database 'FOLDER/out'",
        "import database 'FOLDER'",
    ),
    *("select * from query('copy t to ''FOLDER/out.csv''')", "select * from read_parquet('http://127.0.0.1:1/x')"),
    *("set temp_directory = 'FOLDER/temp'", "create secret (type s3)", "select * from parquet_scan('s3://b/x')"),
    "select 1; set enable_external_access = true; select * from read_csv('FOLDER/secret.csv')",
    "with s as (select * from read_csv('FOLDER/secret.csv')) select * from s",
]


@pytest.mark.parametrize("sql", REACHING)
def test_S12_duckdb_reaches_no_file_no_network_and_no_extension(
    duck: Callable[[], Source], tmp_path: Path, sql: str
) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(SourceError):
        read(duck(), sql.replace("FOLDER", str(tmp_path)))
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("sql", [*WRITING, "attach 'FOLDER/new.sqlite' as n", "pragma query_only = off",
                                 "select load_extension('x')", "select writefile('FOLDER/out', 'x')"])  # fmt: skip
def test_S12_sqlite_is_only_read(lite: Callable[[], Source], tmp_path: Path, sql: str) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(SourceError):
        read(lite(), sql.replace("FOLDER", str(tmp_path)))
    assert read(lite(), "select v from t") == [{"v": 1}]
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_S12_postgresql_is_only_read(postgres: str, tmp_path: Path) -> None:
    address = make_url(postgres).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("create table t as select 1 as v")
        connection.execute("create sequence s")
        connection.execute(
            "create function sneak() returns int language plpgsql as 'begin delete from t; return 1; end'"
        )
        undo = "select set_config('transaction_read_only', 'off', true) as v"
        for sql in [*WRITING, undo, f"select v from (values (1)) q(v) where ({undo}) = 'off' and sneak() = 1",
                    "select sneak() as v", "select nextval('s') as v", "select lo_create(1) as v",
                    f"copy t to '{tmp_path}/out'", "select 1 as v into u from t", "set transaction read write",
                    "select v from t for update"]:  # fmt: skip
            with pytest.raises(SourceError):
                read(PostgresSource(Config(url=SecretStr(postgres))), sql)
        assert connection.execute("select count(*) from t").fetchall() == [(1,)]
        assert connection.execute("select to_regclass('u')").fetchall() == [(None,)]


# --- S13 --------------------------------------------------------------------------------------------------------------

HOSTILE = [
    'a" ; drop table people; --',
    "b'c",
    "50%",
    ":cursor",
    "$1",
    "é☃",
    "select",
    "a]b",
    "a`b",
    "{x}",
    "a\\b",
    "%(x)s",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_S13_a_column_may_have_any_name_on_the_whole_way(tmp_path: Path, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    definition = sync(key=(name,), mapping=mapping(email="email", plan=name), match="email")
    house = House(tmp_path, definition)
    house.people(("k'1", "ada@x.example"), ('k"2', "bo@x.example"), columns=f"{quoted} VARCHAR, email VARCHAR")
    assert house.go().delivered.created == 2
    assert {row["f_plan"] for row in house.known().values()} == {"k'1", 'k"2'}
    assert house.idle().rows.unchanged == 2
    assert house.explain("k'1").state == "unchanged"


@pytest.mark.parametrize("name", HOSTILE)
def test_S13_sqlite_finds_a_column_of_any_name(lite: Callable[[], Source], tmp_path: Path, name: str) -> None:
    source = lite()
    with closing(sqlite3.connect(tmp_path / "w.sqlite")) as connection:
        connection.execute(f"create table named ({source.quote(name)})")
        connection.execute("insert into named values (?)", ["x'; drop table t; --"])
        connection.commit()
    assert read(source, "select * from named") == [{name: "x'; drop table t; --"}]


def test_S13_postgresql_finds_columns_of_any_name(postgres: str) -> None:
    address = make_url(postgres).set(drivername="postgresql").render_as_string(hide_password=False)
    columns = ", ".join('"' + name.replace('"', '""') + '" text' for name in HOSTILE)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"create table named ({columns})".encode())
        connection.execute(f"insert into named values ({', '.join(['%s'] * len(HOSTILE))})".encode(), HOSTILE)
    source = PostgresSource(Config(url=SecretStr(postgres)))
    assert read(source, "select * from named") == [{name: name for name in HOSTILE}]


@pytest.mark.parametrize("value", ["x' or '1'='1", "'; drop table t; --", "\\", '"', ":v", "%s", "\x00"])
def test_S13_a_parameter_is_a_value_whatever_it_holds(
    duck: Callable[[], Source], lite: Callable[[], Source], value: str
) -> None:
    for source in (duck(), lite()):
        with (
            closing(source),
            source.read(Query("select v from t where cast(v as varchar) = :v", {"v": value})) as found,
        ):
            assert [batch.num_rows for batch in found] == []
    assert read(lite(), "select v from t") == [{"v": 1}]


@pytest.mark.parametrize("value", ["x' OR Name != '", "\\'", "'", '"', "a\nb", "x') LIMIT 1 --"])
def test_S13_a_value_looked_up_in_salesforce_stays_inside_its_quotes(value: str) -> None:
    (query,) = soql.queries("Lead", Field("Email", FieldType.TEXT), [value])
    inside = query.partition(" IN ('")[2].removesuffix("')")
    assert re.fullmatch(r"(?:[^'\\\n]|\\.)*", inside), query


@pytest.mark.parametrize("name", ["Lead WHERE Id != ''", "Lead--", "Le'ad", "../Lead", "Lead;", ""])
def test_S13_an_object_s_name_is_no_soql(name: str) -> None:
    with pytest.raises(PluginError, match="is not the name of an object"):
        list(soql.queries(name, Field("Email", FieldType.TEXT), ["x"]))


@pytest.mark.parametrize("name", ["../../oauth/token", "contacts/../x", "a?b=c", "a#b", "a b", "a%2fb"])
def test_S13_an_object_s_name_leads_nowhere_else_at_hubspot(name: str) -> None:
    paths = Paths("2026-09")
    for made in (lambda type: paths.batch(type, "read"), paths.properties, paths.pipelines, paths.search):
        assert made(name).count("/") == made("contacts").count("/")
        assert not {"?", "#", " "} & set(made(name))


# --- S17 --------------------------------------------------------------------------------------------------------------


@contextmanager
def self_signed(folder: Path) -> Iterator[int]:
    """A server on this machine whose certificate nobody has vouched for; what it is sent is kept nowhere."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_certificate(folder, "localhost"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)

        def answer() -> None:
            plain, _ = listening.accept()
            try:
                with context.wrap_socket(plain, server_side=True) as spoken:
                    spoken.recv(1)
                    raise AssertionError("it has spoken to us")
            except (ssl.SSLError, OSError):
                plain.close()

        thread = threading.Thread(target=answer)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def test_S17_a_destination_without_a_certificate_that_is_trusted_gets_nothing(tmp_path: Path) -> None:
    async def call(port: int) -> None:
        wire = Wire(f"https://localhost:{port}")
        try:
            await wire.exchange(
                "GET", f"https://localhost:{port}/", content=None, params=None,
                headers={"authorization": "Bearer canary"}, deadline=10.0,
            )  # fmt: skip
        finally:
            await wire.aclose()

    with self_signed(tmp_path) as port, pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        anyio.run(call, port)
