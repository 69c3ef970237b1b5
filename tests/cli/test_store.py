"""`buffy store check|backup|gc` on a real store, sound and damaged."""

from __future__ import annotations

import os
from pathlib import Path

from tests.cli.shelf import Shelf

URL = "https://data.example/a"


def damage(shelf: Shelf) -> None:
    """Flips a byte in the one large body that there is."""
    shelf.add(URL, os.urandom(3_000_000))
    (body,) = (path for path in (shelf.data_dir / "bodies").rglob("*") if path.is_file())
    data = bytearray(body.read_bytes())
    data[1_000_000] ^= 1
    body.chmod(0o600)
    body.write_bytes(data)


def test_a_sound_store_passes(shelf: Shelf) -> None:
    shelf.add(URL, os.urandom(3_000_000))
    shelf.add(URL, b"small")
    ran = shelf.buffy("store", "check")
    assert (ran.code, ran.out, ran.err) == (0, b"", "the store is in order\n")
    assert shelf.buffy("store", "check", "--json").json == []


def test_damage_is_found_named_and_mended(shelf: Shelf) -> None:
    sound = shelf.add(URL + "/sound")
    damage(shelf)
    ran = shelf.buffy("store", "check")
    assert ran.code == 1
    assert ran.out.startswith(b"body: ")
    assert "--repair` mends" in ran.err
    (finding,) = shelf.buffy("store", "check", "--json").json
    assert set(finding) == {"kind", "which", "problem", "mend"}

    repaired = shelf.buffy("store", "check", "--repair")
    assert (repaired.code, repaired.err) == (0, "1 thing found and mended\n")
    assert shelf.buffy("store", "check").code == 0
    assert shelf.buffy("show", URL).code == 1
    assert shelf.versions(sound) == [sound]


def test_a_backup_is_a_data_directory(shelf: Shelf, tmp_path: Path) -> None:
    large = os.urandom(3_000_000)
    shelf.add(URL, large)
    shelf.add(URL + "/small", b"small")
    ran = shelf.buffy("store", "backup", str(tmp_path / "copy"))
    assert (ran.code, ran.out) == (0, b"")
    assert "copy: 2 versions, 2 bodies, 2.9 MiB" in ran.err
    copy = Shelf(tmp_path / "copy", shelf.capture)
    try:
        assert copy.buffy("get", URL).out == large
        assert copy.buffy("store", "check").code == 0
    finally:
        copy.store.close()


def test_a_backup_overwrites_nothing(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add(URL)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("precious")
    ran = shelf.buffy("store", "backup", str(tmp_path / "full"))
    assert ran.code == 2
    assert "not empty" in ran.err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]


def test_gc_evicts_what_is_beyond_max_size(shelf: Shelf) -> None:
    shelf.add(URL + "/1", os.urandom(2_000_000), age_s=5000)
    shelf.add(URL + "/2", os.urandom(2_000_000))
    assert shelf.buffy("store", "gc").err == "freed 0 B\n"
    (shelf.data_dir / "buffy.toml").write_text('max_size = "3 MB"')
    shelf.store.close()
    ran = shelf.buffy("store", "gc")
    assert ran.code == 0
    assert [entry["url"] for entry in shelf.buffy("ls", "--json").json] == [URL + "/2"]


def test_without_a_store_there_is_one_clear_line(tmp_path: Path, shelf: Shelf) -> None:
    nowhere = str(tmp_path / "nowhere")
    for command, code in ((("check",), 2), (("backup", str(tmp_path / "x")), 2), (("gc",), 1)):
        ran = shelf.buffy("store", *command, "--data-dir", nowhere)
        assert (ran.code, ran.out, ran.err.count("\n")) == (code, b"", 1)
        assert nowhere in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
