"""S18, S22, S23: what the code never does, and what it is built from."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import re
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from reverse_etl.cli.app import sandbox as sandbox_command
from reverse_etl.sandbox import server

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "reverse_etl"

# --- S18 --------------------------------------------------------------------------------------------------------------

MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "subprocess",
    "pty",
    "code",
    "codeop",
}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {
    *("os.system", "os.popen", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "jsonpickle.decode"),
    *("pandas.read_pickle", "numpy.load", "importlib.import_module", "runpy.run_path", "builtins.exec"),
    *("ssl._create_unverified_context", "asyncio.create_subprocess_shell", "anyio.run_process", "anyio.open_process"),
}
SPAWNING = re.compile(r"os\.(exec|spawn|posix_spawn)\w*|asyncio\.create_subprocess\w*")


def dangers(tree: ast.AST) -> Iterator[str]:
    """Everything in a module that could run what is only data, or speak to whoever answers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in BUILTINS | CALLS or SPAWNING.fullmatch(called):
                yield called
            for keyword in node.keywords:
                written = ast.unparse(keyword.value)
                if (keyword.arg, written) in {("shell", "True"), ("verify", "False"), ("check_hostname", "False")}:
                    yield f"{keyword.arg}={written}"
        elif isinstance(node, ast.Attribute) and node.attr in {"CERT_NONE", "UnsafeLoader", "FullLoader", "Loader"}:
            yield node.attr
        elif isinstance(node, ast.Assign) and ast.unparse(node).endswith("check_hostname = False"):
            yield "check_hostname = False"


@pytest.mark.parametrize(
    "code",
    [
        *("import pickle", "from marshal import loads", "eval('1')", "exec(x)", "os.system('ls')", "yaml.load(text)"),
        *("subprocess.run(x, shell=True)", "httpx.Client(verify=False)", "ssl.CERT_NONE", "import subprocess as s"),
        *(
            "__import__(name)",
            "os.execv(path, words)",
            "c.check_hostname = False",
            "yaml.load_all(text, Loader=yaml.Loader)",
        ),
    ],
)
def test_S18_the_search_finds_what_it_looks_for(code: str) -> None:
    assert list(dangers(ast.parse(code)))


def test_S18_data_is_never_code_and_no_shell_is_started() -> None:
    found = {
        str(path.relative_to(PACKAGE)): seen
        for path in sorted(PACKAGE.rglob("*.py"))
        if (seen := list(dangers(ast.parse(path.read_text()))))
    }
    assert found == {}


def test_S17_nothing_in_the_code_turns_certificates_off() -> None:
    words = re.compile(
        r"verify\s*=\s*False|CERT_NONE|_create_unverified_context|InsecureRequestWarning|check_hostname\s*="
    )
    assert [str(path) for path in PACKAGE.rglob("*.py") if words.search(path.read_text())] == []


# --- S22 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_S22_every_locked_dependency_has_hashes_and_no_address(lock: Path) -> None:
    text = lock.read_text().replace("\\\n", " ")
    entries = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+(\[[a-z0-9,._-]+\])?==[^ ]+ ", entry), entry
        assert "--hash=sha256:" in entry, entry
        assert "://" not in entry and " @ " not in entry, entry


def test_S22_every_environment_is_made_with_hashes_required() -> None:
    installs = [
        line for line in (ROOT / "Makefile").read_text().splitlines() if "pip install" in line and "-r " in line
    ]
    assert installs
    assert [line for line in installs if "--require-hashes" not in line] == []


def test_S22_auditors_are_no_dependencies_of_the_product() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = json.dumps([project["dependencies"], project["optional-dependencies"]])
    assert "pip-audit" not in named and "cyclonedx" not in named
    assert len(project["dependencies"]) <= 25


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci/audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GOOD = {"name": "anyio", "version": "4.8.0", "vulns": []}
WEAK = {"name": "h11", "version": "0.14.0", "vulns": [{"id": "GHSA-1", "fix_versions": ["0.16.0"]}]}
SKIPPED = {"name": "duckdb", "skip_reason": "Dependency not found"}


def test_S22_a_known_weakness_fails_the_build(audit: ModuleType) -> None:
    code, said = audit.verdict(json.dumps({"dependencies": [GOOD, WEAK]}))
    assert code == 1
    assert "h11 0.14.0: GHSA-1, mended in 0.16.0" in said


def test_S22_what_could_not_be_audited_passes_for_nothing(audit: ModuleType) -> None:
    code, said = audit.verdict("")
    assert (code, said.partition(":")[0]) == (3, "NOT AUDITED")
    code, said = audit.verdict(json.dumps({"dependencies": [SKIPPED, SKIPPED]}))
    assert (code, said.partition(";")[0]) == (
        3,
        "NOT AUDITED: the advisory service told nothing of any of the 2 locked dependencies",
    )
    code, said = audit.verdict(json.dumps({"dependencies": [GOOD, SKIPPED]}))
    assert code == 3
    assert said.splitlines() == [
        "1 of 2 locked dependencies were audited.",
        "NOT AUDITED, as the advisory service told nothing of them: duckdb.",
        "No weakness is known of those that were audited.",
    ]
    assert audit.verdict(json.dumps({"dependencies": [GOOD]}))[0] == 0


def test_S22_a_build_goes_as_far_as_the_advisories_can_be_asked(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = SimpleNamespace(stdout="")
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: nothing)
    monkeypatch.setattr("sys.argv", ["audit.py", "requirements/dev.txt"])
    assert audit.main() == 3
    monkeypatch.setattr("sys.argv", ["audit.py", audit.LENIENT, "requirements/dev.txt"])
    assert audit.main() == 0


def test_S22_a_build_audits_and_makes_a_bill_of_materials() -> None:
    steps = (ROOT / ".ci/run").read_text().splitlines()
    assert {"make audit ARGS=--as-far-as-it-goes", "make sbom"} <= {*steps}


# --- S23 --------------------------------------------------------------------------------------------------------------


def test_S23_the_sandbox_listens_on_loopback_and_can_not_be_told_otherwise() -> None:
    assert server.HOST == "127.0.0.1"
    assert "host" not in {*inspect.signature(sandbox_command).parameters, *inspect.signature(server.running).parameters}
    with server.running(rate=None) as running:
        port = int(running.url.rpartition(":")[2])
        others = {str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
        for address in others - {"127.0.0.1"}:
            if address.startswith("127."):
                continue
            with socket.socket() as knocking:
                knocking.settimeout(2)
                assert knocking.connect_ex((address, port)) != 0
