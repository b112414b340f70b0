"""``tuneboard evaluate --engine openai``: models on a server, from the command line to the database."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from model_server import FakeModel, Fault, ModelServer, serving

from tuneboard.cli.main import main
from tuneboard.engines import json_server
from tuneboard.store import queries

SECRET = "sk-verysecret0123456789"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(json_server, "_FIRST_WAIT_S", 0.01)
    for name in json_server.KEYS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve(world: Any) -> Iterator[Any]:
    """``serve(...)``: a running server with a base and two adapters."""
    with ExitStack() as stack:

        def start(**settings: Any) -> ModelServer:
            models = {name: FakeModel(name, world.texts()) for name in ("base", "lora-a", "lora-b")}
            models["same"] = models["base"]
            return stack.enter_context(serving(ModelServer(models, **settings)))

        yield start


@pytest.fixture
def command(world: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs ``evaluate`` on a server; returns exit code, stdout and stderr."""

    def run(server: ModelServer, *argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        given = ["--engine", "openai", "--url", server.url, "--include-path", str(world.TASKS), "--db", "r.duckdb"]
        code = main(["evaluate", "--model", "base", *given, *argv])
        return (code, *capsys.readouterr())

    return run


def test_base_and_adapters_are_evaluated_kept_and_reused(serve: Any, command: Any, world: Any) -> None:
    server = serve()
    given = ["--adapter", "a=lora-a", "--candidate", "b=lora-b", "--tasks", "toy_mc1,toy_sums", "--json"]
    code, out, err = command(server, *given)
    assert code == 0, err
    found = json.loads(out)
    assert {"name": "openai", "device": server.url, "dtype": "served"}.items() <= found["engine"].items()
    assert {(cell["candidate"], cell["status"], cell["failed"]) for cell in found["cells"]} == {
        (name, "done", 0) for name in ("base", "a", "b")
    }
    assert "weights behind a server have no hash" in err
    asked = len(server.posts())
    code, out, _ = command(server, *given)
    assert {cell["status"] for cell in json.loads(out)["cells"]} == {"reused"}
    assert len(server.posts()) == asked
    rows = {row.name: row for row in queries.models(Path("r.duckdb"))}
    assert rows["a"].model_id == rows["base"].model_id == f"{server.url}#base"
    assert (rows["a"].adapter_path, rows["a"].adapter_kind) == ("lora-a", "SERVED")
    assert rows["b"].model_id == f"{server.url}#lora-b"


def test_scores_equal_those_of_an_engine_with_the_same_answers(serve: Any, command: Any, bench: Any) -> None:
    theirs = bench("toy_sums", "toy_words")
    cells = json.loads(command(serve(), "--tasks", "toy_sums,toy_words", "--json")[1])["cells"]
    mine = {cell["task"]: {(m["metric"], m["filter"]): m["value"] for m in cell["metrics"]} for cell in cells}
    for result in theirs.results:
        assert mine[result.task.name] == {(m.metric, m.filter): pytest.approx(m.value) for m in result.metrics}


def test_an_adapter_that_the_server_does_not_apply_is_invalid(serve: Any, command: Any) -> None:
    code, out, _ = command(serve(), "--adapter", "a=same", "--tasks", "toy_mc1", "--json")
    assert code == 2
    status = {cell["candidate"]: cell["status"] for cell in json.loads(out)["cells"]}
    assert status == {"base": "done", "a": "invalid"}


def test_requests_that_fail_for_good_are_failed_samples_and_asked_again_by_the_next_run(
    serve: Any, command: Any
) -> None:
    broken = True

    def fault(path: str, body: Mapping[str, Any]) -> Fault | None:
        return Fault(400, {"error": {"message": "too hard"}}) if broken and "moon" in str(body.get("prompt")) else None

    server = serve(fault=fault)
    out = command(server, "--tasks", "toy_mc1", "--json")[1]
    (cell,) = json.loads(out)["cells"]
    assert (cell["status"], cell["n"], cell["failed"]) == ("done", 3, 1)
    assert "too hard" in cell["reason"]
    broken = False
    (cell,) = json.loads(command(server, "--tasks", "toy_mc1", "--json")[1])["cells"]
    assert (cell["status"], cell["n"], cell["failed"]) == ("done", 4, 0)


def test_where_no_log_probabilities_come_texts_are_evaluated_and_choices_say_why_not(serve: Any, command: Any) -> None:
    code, out, _ = command(serve(forms=()), "--tasks", "toy_mc1,toy_sums", "--json")
    cells = {cell["task"]: cell for cell in json.loads(out)["cells"]}
    assert code == 2
    assert cells["toy_sums"]["status"] == "done"
    assert cells["toy_mc1"]["status"] == "failed" and "gives no log-probabilities" in cells["toy_mc1"]["reason"]


def test_chats_are_sent_as_messages_with_their_roles(serve: Any, command: Any) -> None:
    server = serve()
    code, _, err = command(
        server, "--tasks", "toy_sums", "--apply-chat-template", "--system-instruction", "Be brief.", "--quiet"
    )
    assert code == 0, err
    chats = [body["messages"] for body in server.posts() if "messages" in body]
    assert len(chats) == len(server.posts()) > 0
    assert chats[0][0] == {"role": "system", "content": "Be brief."} and chats[0][-1]["role"] == "user"


def test_the_key_is_used_and_stands_nowhere(
    serve: Any, command: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(key=SECRET)
    code, out, err = command(server, "--tasks", "toy_mc1")
    assert code == 2 and err.count("\n") == 1 and "set TUNEBOARD_API_KEY" in err
    assert not Path("r.duckdb").exists()
    monkeypatch.setenv("TUNEBOARD_API_KEY", SECRET)
    code, out, err = command(server, "--tasks", "toy_mc1,toy_sums", "--debug")
    assert code == 0, err
    kept = repr(queries.runs(Path("r.duckdb"))) + repr(world.content(Path("r.duckdb")))
    files = b"".join(path.read_bytes() for path in Path().rglob("*") if path.is_file())
    assert SECRET not in kept + out + err and SECRET.encode() not in files


def test_other_weights_under_a_name_are_refused_where_the_server_tells_of_them(serve: Any, command: Any) -> None:
    server = serve(details={"root": "weights-1"})
    assert command(server, "--tasks", "toy_mc1")[0] == 0
    server.details = {"root": "weights-2"}
    code, _, err = command(server, "--tasks", "toy_mc1", "--quiet")
    assert code == 2 and "tuneboard rename base" in err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--dtype", "float32"], "--dtype is not for --engine openai"),
        (["--device", "cpu"], "--device is not for --engine openai"),
        (["--engine", "transformers"], "--url is not for --engine transformers: it goes with --engine openai"),
        (["--adapter", "a=lora-z"], "unknown model 'lora-z'; did you mean lora-"),
        (["--url", f"http://me:{SECRET}@localhost/v1"], "--url carries a user name"),
        (["--request-timeout", "0"], "expected a number above 0"),
    ],
)
def test_wrong_options_are_one_line(serve: Any, command: Any, argv: list[str], said: str) -> None:
    code, out, err = command(serve(), "--tasks", "toy_mc1", *argv)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and said in err and SECRET not in err


def test_a_server_needs_a_url(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--engine", "openai", "--model", "base", "--tasks", "toy_mc1"]) == 2
    assert "--engine openai needs the server: add --url URL" in capsys.readouterr().err


def test_folders_here_with_the_names_of_served_models_are_left_alone(serve: Any, command: Any, world: Any) -> None:
    for name in ("base", "lora-a"):
        world.make_model(Path(name))
        provenance = {"made_by": "tuneboard", "base": {"id": "x"}}
        (Path(name) / "provenance.json").write_text(json.dumps(provenance))
        (Path(name) / "config.json").write_text('{"model_type": "bert"}')
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert command(serve(), "--adapter", "a=lora-a", "--tasks", "toy_mc1", "--quiet")[0] == 0
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in Path("base").iterdir()} == {"config.json", "model.safetensors", "provenance.json"}
