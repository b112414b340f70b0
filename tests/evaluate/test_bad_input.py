"""Bad input is one clear line and exit code 2, and nothing is written."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
from unprivileged import obeying_permissions

from tuneboard.cli.main import main
from tuneboard.engines.fake import Behaviour, FakeEngine
from tuneboard.store import queries

Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def model(world: Any, tmp_path: Path) -> Path:
    return world.make_model(tmp_path / "model")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, world: Any) -> None:
    """The command line uses the fake engine."""
    behaviour = Behaviour(world.texts())
    monkeypatch.setattr("tuneboard.cli.evaluate._engine_factory", lambda args: lambda r, n: FakeEngine(r, behaviour))


def evaluate(world: Any, *argv: Any, tasks: str = "toy_mc1") -> int:
    given = ["--include-path", world.TASKS, *(["--tasks", tasks] if tasks else []), "--quiet"]
    return main(["evaluate", *map(str, (*argv, *given))])


def everything_below(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder with its content; locks apart, which are empty and stay."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.suffix not in (".lock", ".gate")
    }


@pytest.fixture
def refused(world: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs ``evaluate`` and returns its error line, once it is sure that there is nothing else."""

    def run(*argv: Any, tasks: str = "toy_mc1") -> str:
        before = everything_below(tmp_path)
        capsys.readouterr()
        code = evaluate(world, *argv, tasks=tasks)
        out, err = capsys.readouterr()
        assert (code, out) == (2, ""), err
        assert err.count("\n") == 1, err
        assert err.startswith("tuneboard: error: ")
        assert "Traceback" not in err
        assert everything_below(tmp_path) == before
        return err

    return run


@pytest.mark.usefixtures("fake")
class TestArguments:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (["--limit", "-1"], r"--limit.*'-1'.*at least 1"),
            (["--limit", "0"], r"--limit.*'0'.*at least 1"),
            (["--limit", "ten"], r"--limit.*'ten'.*whole number"),
            (["--limit", "2.5"], r"--limit.*'2\.5'.*whole number"),
            (["--num-fewshot", "-1"], r"--num-fewshot.*'-1'.*at least 0"),
            (["--num-fewshot", "9"], r"9 examples.*lower --num-fewshot"),
            (["--seed", "-3"], r"--seed.*'-3'"),
            (["--max-length", "0"], r"--max-length.*'0'"),
            (["--gen-kwargs", "temperature"], r"--gen-kwargs 'temperature'.*key=value"),
            (["--gen-kwargs", "temperature=hot"], r"temperature='hot'.*a number of at least 0"),
            (["--gen-kwargs", "temprature=1"], r"unknown generation setting 'temprature'; did you mean temperature\?"),
            (["--gen-kwargs", "max_gen_toks=0"], r"max_gen_toks=0.*at least 1"),
            (["--gen-kwargs", "{1}"], r"--gen-kwargs is not JSON"),
            (["--gen-kwargs", 'until=["a",1]'], r"until=.*a list of texts"),
            (["--suite", "quick"], r"--suite quick and --tasks toy_mc1 are both given; leave one of them out"),
            (["--revision", "v2"], r"--revision v2 is for a model on the hub, and \S+ is a folder"),
            (["--include-path", "nowhere"], r"no folder 'nowhere'"),
            (["--mirror", "nowhere"], r"no folder 'nowhere'"),
            (["--adapter", "a"], r"--adapter.*'a'.*NAME=VALUE"),
            (["--dtype", "float8"], r"dtype 'float8' is unknown"),
            (["--engine", "magic"], r"--engine.*magic"),
            (["--limt", "1"], r"unknown option '--limt'; did you mean --limit"),
        ],
    )
    def test_a_wrong_value_names_what_was_expected(
        self, refused: Refused, model: Path, given: list[str], expected: str
    ) -> None:
        tasks = "toy_legs" if "--num-fewshot" in given else "toy_mc1"
        assert re.search(expected, refused("--model", model, *given, tasks=tasks))

    def test_a_model_is_needed(self, refused: Refused) -> None:
        assert "--model" in refused()

    def test_a_suite_or_tasks_are_needed(self, refused: Refused, model: Path) -> None:
        assert "either --suite S or --tasks" in refused("--model", model, tasks="")
        assert "names no task" in refused("--model", model, tasks=" , ")

    def test_unknown_tasks_and_suites_come_with_near_matches(self, refused: Refused, model: Path) -> None:
        assert "unknown task 'toy_leg'; did you mean toy_legs" in refused("--model", model, tasks="toy_mc1,toy_leg")
        assert "unknown suite 'quik'; did you mean quick" in refused("--model", model, "--suite", "quik", tasks="")
        assert "no suite file at" in refused("--model", model, "--suite", "none.yaml", tasks="")

    def test_a_suite_with_unknown_keys_names_all_of_them(self, refused: Refused, model: Path) -> None:
        Path("my.yaml").write_text("description: x\ntasks:\n  - task: toy_mc1\n    limt: 3\ncolour: red\n")
        line = refused("--model", model, "--suite", "my.yaml", tasks="")
        assert "limt" in line and "did you mean limit" in line and "colour" in line

    def test_a_task_with_unknown_keys_names_them(self, refused: Refused, model: Path) -> None:
        Path("own").mkdir()
        Path("own/odd.yaml").write_text("task: odd\ndataset_path: json\noutputtype: multiple_choice\n")
        line = refused("--model", model, "--include-path", "own", tasks="odd")
        assert "unknown key 'outputtype', did you mean output_type" in line

    @pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "tab\there", "a\u2028b"])
    def test_a_name_that_cannot_be_shown_is_refused(self, refused: Refused, model: Path, world: Any, name: str) -> None:
        adapter = world.make_adapter(Path("a"))
        assert "printable" in refused("--model", model, "--adapter", f"x{name}={adapter}")
        assert "printable" in refused("--model", model, "--base-name", name)

    def test_a_name_is_given_once(self, refused: Refused, model: Path, world: Any) -> None:
        one = world.make_adapter(Path("a"))
        twice = ["--adapter", f"a={one}", "--candidate", f"a={model}"]
        assert "'a' is given to two candidates" in refused("--model", model, *twice)
        assert "'base' is given to two candidates" in refused("--model", model, "--adapter", f"base={one}")

    def test_odd_but_printable_names_work_everywhere(
        self, model: Path, world: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = ["a b", "ü/ö", "x'); DROP TABLE cells; --", "100%", "日本"]
        given = [
            f"--adapter={name}={world.make_adapter(Path('adapters') / str(i), name)}" for i, name in enumerate(names)
        ]
        assert evaluate(world, "--model", model, *given, "--db", "r.duckdb", "--json") == 0
        cells = json.loads(capsys.readouterr().out)["cells"]
        assert [cell["candidate"] for cell in cells] == ["base", *names]
        for name in names:
            assert main(["show", name, "--db", "r.duckdb"]) == 0


@pytest.mark.usefixtures("fake")
class TestWeights:
    def test_a_model_that_is_not_there(self, refused: Refused) -> None:
        assert "no model at './nowhere'" in refused("--model", "./nowhere")
        assert "no model at 'nowhere'" in refused("--model", "nowhere")

    def test_a_folder_that_is_no_model(self, refused: Refused, model: Path) -> None:
        Path("empty").mkdir()
        assert "no config.json" in refused("--model", "empty")
        (model / "model.safetensors").unlink()
        assert "no weights" in refused("--model", model)
        (model / "pytorch_model.bin").write_text("pickle")
        assert "--allow-pickle" in refused("--model", model)
        (model / "config.json").write_text("{")
        assert "config.json cannot be read" in refused("--model", model)
        (model / "config.json").write_text("[]")
        assert "not a JSON object" in refused("--model", model)

    def test_a_checkpoint_that_is_not_there(self, refused: Refused, model: Path) -> None:
        assert "no model at './nowhere'" in refused("--model", model, "--candidate", "full=./nowhere")

    def test_a_folder_that_is_no_adapter(self, refused: Refused, model: Path, world: Any) -> None:
        assert "no adapter at './nowhere'" in refused("--model", model, "--adapter", "a=./nowhere")
        adapter = world.make_adapter(Path("a"))
        (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
        assert "--allow-pickle" in refused("--model", model, "--adapter", f"a={adapter}")
        (adapter / "adapter_model.bin").unlink()
        assert "no adapter_model.safetensors" in refused("--model", model, "--adapter", f"a={adapter}")
        (adapter / "adapter_model.safetensors").write_text("x")
        (adapter / "adapter_config.json").write_text("{}")
        assert "names no peft_type" in refused("--model", model, "--adapter", f"a={adapter}")
        (adapter / "adapter_config.json").unlink()
        assert "no adapter_config.json" in refused("--model", model, "--adapter", f"a={adapter}")

    def test_a_name_that_is_bound_to_other_weights(self, refused: Refused, model: Path, world: Any) -> None:
        one, two = world.make_adapter(Path("a"), "one"), world.make_adapter(Path("b"), "two")
        assert evaluate(world, "--model", model, "--adapter", f"mine={one}", "--db", "r.duckdb") == 0
        line = refused("--model", model, "--adapter", f"mine={two}", "--db", "r.duckdb")
        assert "tuneboard rename mine NEW-NAME --db r.duckdb" in line


class TestAdaptersOnARealModel:
    def test_an_adapter_that_does_not_fit_the_base(
        self, refused: Refused, tiny_model: Any, tiny_adapter: Any, tmp_path: Path
    ) -> None:
        llama, gpt2 = tiny_model("llama"), tiny_model("gpt2")
        other = tiny_adapter(gpt2)
        assert re.search(r"adapter .* does not fit this base", refused("--model", llama, "--adapter", f"a={other}"))

        from safetensors.torch import load_file, save_file

        narrow = tmp_path / "narrow"
        shutil.copytree(tiny_adapter(llama), narrow)
        weights = load_file(narrow / "adapter_model.safetensors")
        save_file({k: w[..., :-1].contiguous() for k, w in weights.items()}, narrow / "adapter_model.safetensors")
        assert re.search(r"does not fit.*size mismatch", refused("--model", llama, "--adapter", f"a={narrow}"))

        (narrow / "adapter_model.safetensors").write_bytes(b"\x00" * 100)
        assert "adapter" in refused("--model", llama, "--adapter", f"a={narrow}")

    @pytest.mark.parametrize("kind", ["lora", "prompt"])
    def test_an_adapter_whose_file_is_cut_off(
        self, refused: Refused, tiny_model: Any, tiny_adapter: Any, tmp_path: Path, kind: str
    ) -> None:
        from peft import PromptTuningConfig

        llama = tiny_model("llama")
        given = {"prompt": (PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),)}.get(kind, ())
        cut = tmp_path / "cut"
        shutil.copytree(tiny_adapter(llama, *given), cut)
        file = cut / "adapter_model.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
        line = refused("--model", llama, "--adapter", f"a={cut}")
        assert re.search(rf"{file} cannot be read \(.+\): it is cut off or damaged; copy it again", line)

    def test_a_context_without_room_for_a_text(self, refused: Refused, tiny_model: Any) -> None:
        line = refused("--model", tiny_model("llama"), "--max-length", "1", tasks="toy_mc1,toy_sums")
        assert re.search(r"task 'toy_sums' writes texts, and the context of \S+ is to hold 1 token: no prompt", line)

    def test_a_context_beyond_the_models_own_is_noted(
        self, tiny_model: Any, world: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        given = ["--model", tiny_model("llama"), "--include-path", world.TASKS, "--tasks", "toy_mc1", "--limit", 1]
        assert main([str(word) for word in ("evaluate", *given, "--max-length", 100_000, "--db", "r.duckdb")]) == 0
        said = " ".join(capsys.readouterr().err.split())
        assert re.search(r"--max-length 100000 is more than the \d+ tokens that \S+ was made for", said)

    def test_a_task_that_may_fill_the_context_is_noted_and_asked(
        self, tiny_model: Any, world: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked = [
            "evaluate",
            "--model",
            str(tiny_model("llama")),
            "--max-length",
            "64",
            "--limit",
            "1",
            "--db",
            "r.duckdb",
        ]
        asked += ["--include-path", str(world.TASKS), "--tasks", "toy_mc1,toy_sums", "--gen-kwargs"]
        assert main([*asked, "max_gen_toks=64"]) == 0
        said = " ".join(capsys.readouterr().err.split())
        assert "toy_sums may write 64 tokens, but the context of" in said
        assert "prompts keep at most their last 32 tokens" in said
        assert main([*asked, "max_gen_toks=63"]) == 0
        assert "may write" not in capsys.readouterr().err

    def test_a_model_whose_weights_are_garbage(self, refused: Refused, tiny_model: Any, tmp_path: Path) -> None:
        broken = tmp_path / "broken"
        shutil.copytree(tiny_model("llama"), broken)
        (broken / "model.safetensors").write_bytes(b"\x01" * 100)
        assert "are cut off or damaged" in refused("--model", broken)

    def test_an_adapter_that_learned_nothing_is_invalid_and_the_rest_is_done(
        self, world: Any, tiny_model: Any, tiny_adapter: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from peft import LoraConfig

        llama = tiny_model("llama")
        idle = tiny_adapter(llama, LoraConfig(r=2, target_modules="all-linear"))
        adapters = ["--adapter", f"idle={idle}", "--adapter", f"a={tiny_adapter(llama)}"]
        code = evaluate(world, "--model", llama, *adapters, "--db", "r.duckdb", "--json")
        out, err = capsys.readouterr()
        assert (code, err) == (2, "")
        found = {cell["candidate"]: cell for cell in json.loads(out)["cells"]}
        assert {name: cell["status"] for name, cell in found.items()} == {
            "base": "done",
            "idle": "invalid",
            "a": "done",
        }
        assert "was not applied" in found["idle"]["reason"]
        assert found["idle"]["metrics"] == []


@pytest.mark.usefixtures("fake")
class TestData:
    def test_a_split_that_the_mirror_lacks(self, refused: Refused, model: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        Path("own").mkdir()
        Path("own/half.yaml").write_text(
            "task: half\ndataset_path: toy/half\noutput_type: multiple_choice\ntraining_split: train\n"
            "test_split: test\ndoc_to_text: '{{q}}'\ndoc_to_choice: [a, b]\ndoc_to_target: 0\n"
            "metric_list:\n  - metric: acc\n"
        )
        folder = Path("mirror/toy/half/default")
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"q": ["x"]}), folder / "train.parquet")
        given = ("--model", model, "--include-path", "own", "--mirror", "mirror")
        assert "no file mirror/toy/half/default/test.parquet" in refused(*given, tasks="half")
        shutil.rmtree("mirror/toy")
        assert "no file mirror/toy/half/default/test.parquet" in refused(*given, tasks="half")
        folder.mkdir(parents=True)
        (folder / "test.parquet").write_text("garbage")
        assert "not a readable parquet file" in refused(*given, tasks="half")


@pytest.mark.usefixtures("fake")
class TestDatabase:
    def test_a_file_that_is_no_database(self, refused: Refused, model: Path) -> None:
        Path("r.duckdb").write_bytes(os.urandom(5000))
        assert "r.duckdb is not a DuckDB database" in refused("--model", model, "--db", "r.duckdb")

    def test_a_damaged_database(self, refused: Refused, model: Path, world: Any) -> None:
        assert evaluate(world, "--model", model, "--db", "r.duckdb") == 0
        data = bytearray(Path("r.duckdb").read_bytes())
        data[20000 : len(data) - 20000] = b"\xff" * (len(data) - 40000)
        Path("r.duckdb").write_bytes(data)
        assert "r.duckdb" in refused("--model", model, "--db", "r.duckdb")

    def test_a_database_of_another_program(self, refused: Refused, model: Path) -> None:
        with duckdb.connect("r.duckdb") as connection:
            connection.execute("CREATE TABLE birds (name VARCHAR)")
        assert "its tables (birds, ...) are not tuneboard's" in refused("--model", model, "--db", "r.duckdb")

    def test_a_database_of_a_newer_tuneboard(self, refused: Refused, model: Path, world: Any) -> None:
        assert evaluate(world, "--model", model, "--db", "r.duckdb") == 0
        with duckdb.connect("r.duckdb") as connection:
            connection.execute("INSERT INTO schema_version VALUES (99, now() AT TIME ZONE 'UTC')")
        line = refused("--model", model, "--db", "r.duckdb")
        assert "written by a newer tuneboard (schema 99" in line and "pip install --upgrade" in line

    def test_a_place_where_no_database_can_be(self, refused: Refused, model: Path) -> None:
        Path("file").write_text("")
        assert "cannot write file/r.duckdb" in refused("--model", model, "--db", "file/r.duckdb")
        Path("folder").mkdir()
        assert "Is a directory" in refused("--model", model, "--db", "folder")

    def test_a_file_of_another_program_is_named_as_such_and_nothing_is_put_beside_it(
        self, refused: Refused, model: Path
    ) -> None:
        with closing(sqlite3.connect("birds.sqlite")) as connection:
            connection.execute("CREATE TABLE birds (name TEXT)")
        with duckdb.connect("birds.duckdb") as connection:
            connection.execute("CREATE TABLE birds (name VARCHAR)")
        Path("notes.txt").write_text("birds")
        line = refused("--model", model, "--db", "birds.sqlite")
        assert "birds.sqlite is not a DuckDB database but one of SQLite; name another file with --db" in line
        assert "its tables (birds, ...) are not tuneboard's" in refused("--model", model, "--db", "birds.duckdb")
        assert "notes.txt is not a DuckDB database" in refused("--model", model, "--db", "notes.txt")
        assert main(["show", "runs", "--db", "birds.sqlite"]) == main(["show", "runs", "--db", "birds.duckdb"]) == 2
        assert sorted(path.name for path in Path().iterdir()) == ["birds.duckdb", "birds.sqlite", "notes.txt"]

    def test_an_empty_name(self, refused: Refused, model: Path) -> None:
        assert re.search(r"--db: '' given, expected the path of a file", refused("--model", model, "--db", ""))
        assert list(Path().iterdir()) == []

    def test_a_folder_without_permission(self, refused: Refused, model: Path) -> None:
        Path("closed").mkdir(mode=0o500)

        def check() -> None:
            assert "cannot write closed/r.duckdb" in refused("--model", model, "--db", "closed/r.duckdb")

        obeying_permissions(check)


class TestFullDisk:
    """A write that is refused in the middle of an evaluation."""

    def run(self, driver: Any, world: Any, folder: Path, **settings: Any) -> Any:
        if not (folder / "model").exists():
            world.make_model(folder / "model")
        (folder / "output" / "err").unlink(missing_ok=True)
        given = ["--model", folder / "model", "--tasks", "toy_legs,toy_sums", "--include-path", world.TASKS, "--quiet"]
        return driver(folder / "output", "evaluate", *given, "--db", folder / "disk" / "r.duckdb", **settings)

    def check(self, driver: Any, world: Any, tmp_path: Path) -> None:
        """Evaluate again, now that there is space, and hold the database against that of a disk that was never full."""
        again = self.run(driver, world, tmp_path / "full")
        assert (again.code, again.err) == (0, "")
        assert self.run(driver, world, tmp_path / "free").code == 0
        found, expected = (world.content(tmp_path / name / "disk" / "r.duckdb") for name in ("full", "free"))
        for rows in (*found["candidates"], *expected["candidates"]):
            rows["model_id"] = Path(rows["model_id"]).name
        assert found == expected

    # The journal of the first task is full; no database fits; the first result does not fit.
    @pytest.mark.parametrize("limit", [2_000, 10_000, 20_000])
    def test_is_one_line_and_the_next_run_goes_on(self, driver: Any, world: Any, tmp_path: Path, limit: int) -> None:
        full = self.run(driver, world, tmp_path / "full", file_limit=limit)
        assert (full.code, full.out) == (2, ""), full
        assert re.fullmatch(r"tuneboard: error: cannot .*run the same command again.*\n", full.err), full.err
        db = tmp_path / "full" / "disk" / "r.duckdb"
        assert not db.exists() or queries.cells(db) == []
        self.check(driver, world, tmp_path)

    def test_results_that_only_fit_into_the_log_are_kept(self, driver: Any, world: Any, tmp_path: Path) -> None:
        assert self.run(driver, world, tmp_path / "full", file_limit=300_000).code == 0
        assert len(queries.cells(tmp_path / "full" / "disk" / "r.duckdb")) == 2
        self.check(driver, world, tmp_path)

    @pytest.mark.accept
    @pytest.mark.parametrize("size", ["8k", "16k", "24k", "40k", "64k", "300k", "800k", "3m"])
    def test_a_real_disk_that_is_full(self, driver: Any, world: Any, tmp_path: Path, size: str) -> None:
        disk = tmp_path / "full" / "disk"
        disk.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
            pytest.skip("a disk of a given size needs the right to mount one")
        try:
            full = self.run(driver, world, tmp_path / "full")
            assert full.code in (0, 2)
            if full.code == 2:
                assert full.out == ""
                assert re.fullmatch(r"tuneboard: error: cannot .*again.*\n", full.err), full.err
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            self.check(driver, world, tmp_path)
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=False)
