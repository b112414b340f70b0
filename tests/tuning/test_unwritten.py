"""Libraries that write more than the disk takes, each with an error of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from full_disk import no_file_above

from tuneboard.errors import StoreError
from tuneboard.tuning.unwritten import unwritten, write_fault


def by_safetensors(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(5000)}, folder / "x")


def by_torch(folder: Path) -> None:
    torch.save({"a": torch.zeros(5000)}, folder / "x")


def by_tokenizers(folder: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({f"word{i}": i for i in range(500)}, "word0")).save(str(folder / "x"))


def by_python(folder: Path) -> None:
    (folder / "x").write_bytes(bytes(20_000))


def by_copying(folder: Path) -> None:
    (folder / "from").mkdir()
    (folder / "from" / "x").touch()
    with (folder / "from" / "x").open("r+b") as file:
        file.truncate(900)
    shutil.copytree(folder / "from", folder / "to", copy_function=lambda *names: by_python(folder))


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (by_safetensors, "File too large"),
        (by_torch, "torch could write only a part"),
        (by_tokenizers, "File too large"),
        (by_python, "File too large"),
        (by_copying, "File too large"),
    ],
)
def test_each_librarys_way_of_saying_that_a_file_cannot_be_written_is_known(
    write: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    with no_file_above(1000), pytest.raises(Exception) as raised:
        write(tmp_path)
    found = write_fault(raised.value)
    assert found is not None and reason in found and "\n" not in found


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "damaged").write_bytes(b"no weights")
    with pytest.raises(Exception) as raised:
        torch.load(tmp_path / "damaged")
    assert write_fault(raised.value) is None
    torn = RuntimeError("PytorchStreamReader failed reading zip archive: failed finding central directory")
    for error in (torn, ValueError("x"), RuntimeError("size mismatch"), StoreError("no room (os error 28)")):
        assert write_fault(error) is None


def test_the_line_says_what_why_how_much_room_there_is_and_what_to_do(tmp_path: Path) -> None:
    line = str(unwritten("the model to out/x", tmp_path / "not" / "there", "No space left on device", "try again"))
    assert line.startswith("cannot write the model to out/x (No space left on device; ")
    assert line.endswith("iB are free there now); free or grant space there, then try again")
