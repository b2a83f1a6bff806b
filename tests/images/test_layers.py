"""A layer is made once, and the same files make the same one wherever and whenever."""

from __future__ import annotations

import os
import tarfile
import time
from pathlib import Path

import pytest

from lab.images.layers import Placed, Workshop, of_files


def shop_in(folder: Path) -> Workshop:
    return Workshop(folder, lambda _: None)


def files_in(folder: Path, moment: float) -> list[Placed]:
    (folder / "tree/inner").mkdir(parents=True)
    (folder / "program").write_text("run")
    (folder / "program").chmod(0o700)
    (folder / "tree/inner/text").write_text("read")
    (folder / "tree/inner/text").chmod(0o600)
    (folder / "tree/left-out").write_text("never")
    os.utime(folder / "program", (moment, moment))
    return [
        Placed(folder / "program", "usr/bin/program"),
        Placed(folder / "tree", "opt/tree"),
    ]


def test_the_same_files_are_the_same_layer(tmp_path: Path) -> None:
    made = []
    for number in (1, 2):
        shop, files = shop_in(tmp_path / f"shop{number}"), files_in(tmp_path / f"{number}", number)
        made.append(of_files(shop, "it", "1", files, ["/left-out"]))
    assert made[0].digest == made[1].digest
    with tarfile.open(made[0].content) as archive:
        found = {item.name: item for item in archive}
    assert sorted(found) == [
        "opt",
        "opt/tree",
        "opt/tree/inner",
        "opt/tree/inner/text",
        "usr",
        "usr/bin",
        "usr/bin/program",
    ]
    # Anybody may run and read it, whatever this machine's umask made of it.
    assert found["usr/bin/program"].mode & 0o444 == 0o444
    assert found["usr/bin/program"].mode & 0o100
    assert {item.uid for item in found.values()} == {0}


def test_a_layer_is_made_once_for_a_version(tmp_path: Path) -> None:
    shop, files = shop_in(tmp_path / "shop"), files_in(tmp_path, 1)
    first = of_files(shop, "it", "1", files)
    (tmp_path / "program").write_text("runs differently")
    assert of_files(shop, "it", "1", files).digest == first.digest
    assert of_files(shop, "it", "2", files).digest != first.digest


def test_what_was_begun_and_not_finished_is_begun_anew(tmp_path: Path) -> None:
    shop = shop_in(tmp_path)

    def broken(path: Path) -> None:
        path.mkdir()
        (path / "half").touch()
        raise OSError("half of it")

    with pytest.raises(OSError, match="half"):
        shop.made("steps/one", broken)
    made = shop.made("steps/one", Path.mkdir)
    assert list(made.iterdir()) == []


def test_what_nobody_uses_for_weeks_goes(tmp_path: Path) -> None:
    shop = shop_in(tmp_path)
    used, unused = (shop.made(f"steps/{name}", Path.mkdir) for name in ("used", "unused"))
    month_ago = time.time() - 30 * 86400
    for path in (used, unused):
        (path / "file").touch()
        os.utime(path, (month_ago, month_ago))
    shop.made("steps/used", Path.mkdir)
    shop.tidy()
    assert used.exists()
    assert not unused.exists()
