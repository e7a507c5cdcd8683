"""The cache under processes that start at once, are killed, and find flipped bits."""

import json
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.runtime import cache as cache_module
from vm.runtime.cache import Cache, Entry, default_directory, default_size_limit, entry_key

PROCESSES = 16
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "entries", size_limit=1 << 30)


def payload_of(key):
    """What compiling `key` gives: its own text, so that a reader can tell a wrong one."""
    return (key.encode() + b"\0\xff") * 500


def entry_of(key):
    return Entry(payload_of(key), {"of": key, "registers": 40})


def refuse():
    raise AssertionError("compiled although there is an entry")


def named(directory, suffix):
    return sorted(path.name for path in Path(directory).iterdir() if path.name.endswith(suffix))


# The key


def test_every_part_decides_the_key():
    base = {"program": "p", "target": "sm_80", "options": ["-O3"], "versions": {"nvrtc": "13.0"}}
    others = [
        base | {"program": "p "},
        base | {"target": "sm_90a"},
        base | {"options": ["-O3", "-g"]},
        base | {"options": ["-O3-g"]},
        base | {"options": []},
        base | {"versions": {"nvrtc": "13.1"}},
        base | {"versions": {"vm": "13.0"}},
        base | {"versions": {}},
    ]
    keys = {entry_key(**each) for each in [base, *others]}
    assert len(keys) == 1 + len(others)
    assert entry_key("p", "t", [], {"a": "1", "b": "2"}) == entry_key(
        "p", "t", [], {"b": "2", "a": "1"}
    )


texts = st.text(max_size=8)
parts = st.tuples(texts, texts, st.lists(texts, max_size=3), st.dictionaries(texts, texts))


@settings(deadline=None, max_examples=200)
@given(parts, parts)
def test_keys_agree_only_where_the_parts_do(first, second):
    assert (entry_key(*first) == entry_key(*second)) == (first == second)


# One process


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200), st.dictionaries(texts, st.integers() | texts | st.none()))
def test_what_went_in_comes_out(tmp_path_factory, payload, metadata):
    cache = Cache(tmp_path_factory.mktemp("cache"), size_limit=1 << 20)
    given_entry = Entry(payload, metadata)
    assert cache.get("k") is None
    assert cache.get_or_compile("k", lambda: given_entry) == given_entry
    assert cache.get("k") == given_entry
    assert cache.get_or_compile("k", refuse) == given_entry
    assert [path.name for path in cache.directory.iterdir()] == ["k.entry"]


@pytest.mark.parametrize("step", [1, 0])
def test_a_flipped_bit_anywhere_or_a_cut_is_a_miss(cache, step):
    cache.get_or_compile("k", lambda: Entry(b"payload", {"a": 1}))
    path = cache.directory / "k.entry"
    whole = path.read_bytes()
    if step:
        wrong = [
            whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :]
            for i in range(len(whole))
            for bit in range(8)
        ]
    else:
        wrong = [whole[:length] for length in range(len(whole))] + [whole + b"\0"]
    for data in wrong:
        path.write_bytes(data)
        assert cache.get("k") is None
    path.write_bytes(whole)
    assert cache.get("k") == Entry(b"payload", {"a": 1})


def test_a_damaged_entry_is_set_aside_and_compiled_again(cache):
    cache.get_or_compile("k", lambda: entry_of("k"))
    path = cache.directory / "k.entry"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    assert cache.get_or_compile("k", lambda: entry_of("k")) == entry_of("k")
    assert cache.get("k") == entry_of("k")
    assert (cache.directory / "k.damaged").read_bytes() == bytes(data)


def test_an_entry_under_the_name_of_another_is_a_miss(cache):
    cache.get_or_compile("k", lambda: entry_of("k"))
    os.rename(cache.directory / "k.entry", cache.directory / "other.entry")
    assert cache.get("other") is None


def test_a_failed_compilation_leaves_nothing(cache):
    def fail():
        raise ValueError("no such instruction")

    with pytest.raises(ValueError, match="no such instruction"):
        cache.get_or_compile("k", fail)
    assert list(cache.directory.iterdir()) == []
    assert cache.get_or_compile("k", lambda: entry_of("k")) == entry_of("k")


def test_threads_compile_once(cache):
    compiled = []

    def compile_slowly():
        compiled.append(1)
        time.sleep(0.05)
        return entry_of("k")

    results = []
    threads = [
        threading.Thread(target=lambda: results.append(cache.get_or_compile("k", compile_slowly)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [entry_of("k")] * 8
    assert len(compiled) == 1


def test_unwritable_directory_costs_a_warning_only(tmp_path):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "entries")
    with pytest.warns(RuntimeWarning, match="VM_CACHE_DIR"):
        assert cache.get_or_compile("k", lambda: entry_of("k")) == entry_of("k")
    assert cache.list() == [] and cache.size() == 0 and cache.clear() == 0


def test_full_disk_costs_a_warning_only(cache, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(RuntimeWarning, match="No space left"):
        assert cache.get_or_compile("k", lambda: entry_of("k")) == entry_of("k")
    assert list(cache.directory.iterdir()) == []


# Eviction and what the command line shows


def age(cache, key, seconds):
    moment = time.time() - seconds
    os.utime(cache.directory / f"{key}.entry", (moment, moment))


def test_least_recently_used_go_first(tmp_path):
    one = len(cache_module._encode("a", entry_of("a")))
    cache = Cache(tmp_path, size_limit=3 * one)
    for index, key in enumerate("abc"):
        cache.get_or_compile(key, lambda key=key: entry_of(key))
        age(cache, key, 9000 - 1000 * index)
    assert [each.key for each in cache.list()] == ["a", "b", "c"]
    assert cache.get("a") == entry_of("a")  # used now: no longer the oldest
    cache.get_or_compile("d", lambda: entry_of("d"))
    assert [each.key for each in cache.list()] == ["c", "a", "d"]
    assert cache.size() == 3 * one


def test_the_newest_stays_even_when_it_alone_is_over_the_limit(tmp_path):
    cache = Cache(tmp_path, size_limit=10)
    for key in "ab":
        cache.get_or_compile(key, lambda key=key: entry_of(key))
        assert cache.get(key) == entry_of(key)
    assert cache.get("a") is None


def test_list_verify_clear(cache):
    for key in "abc":
        cache.get_or_compile(key, lambda key=key: entry_of(key))
    path = cache.directory / "b.entry"
    path.write_bytes(path.read_bytes()[:-1])
    listed = {each.key: each.metadata for each in cache.list()}
    assert listed == {"a": entry_of("a").metadata, "b": None, "c": entry_of("c").metadata}
    assert cache.verify() == ["b"]
    assert cache.verify() == []
    assert named(cache.directory, "") == ["a.entry", "b.damaged", "c.entry"]
    total = sum(path.stat().st_size for path in cache.directory.iterdir())
    assert cache.clear() == total
    assert cache.list() == []


def test_what_killed_processes_left_is_swept(cache):
    cache.get_or_compile("a", lambda: entry_of("a"))
    for name, seconds in [("k.1.ab.temporary", 7200), ("l.2.cd.temporary", 5), ("k.lock", 7200)]:
        (cache.directory / name).write_text("")
        moment = time.time() - seconds
        os.utime(cache.directory / name, (moment, moment))
    held = cache._lock("held", wait=False)
    cache.clear()
    assert named(cache.directory, "") == ["held.lock", "l.2.cd.temporary"]
    cache._unlock("held", held)


def test_directory_and_limit_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("VM_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("VM_CACHE_SIZE", "12345")
    assert default_directory() == tmp_path and default_size_limit() == 12345
    monkeypatch.delenv("VM_CACHE_DIR")
    monkeypatch.delenv("VM_CACHE_SIZE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_directory().name == "vm" and default_size_limit() == cache_module.SIZE_LIMIT


def test_import_is_light():
    code = "import sys, vm.runtime.cache; print('numpy' in sys.modules, 'cuda' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


# Many processes


def log(path, *words):
    """One line, appended at once."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (json.dumps(words) + "\n").encode())
    os.close(descriptor)


def read_log(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def compile_logged(journal, key, seconds):
    log(journal, "begin", key, os.getpid())
    time.sleep(seconds)
    log(journal, "end", key, os.getpid())
    return entry_of(key)


def compiling(lines):
    """Who has begun and not ended, by key: the killed are among them."""
    begun = [line[1:] for line in lines if line[0] == "begin"]
    return [each for each in begun if ["end", *each] not in lines]


def overlaps(lines):
    """Compilations that began before another of the same key ended. (The killed end never.)"""
    found = []
    for index, (word, *which) in enumerate(lines):
        if word == "begin":
            end = lines.index(["end", *which], index) if ["end", *which] in lines[index:] else index
            between = [line for line in lines[index + 1 : end] if line[0] == "begin"]
            found += [line for line in between if line[1] == which[0]]
    return found


def worker(directory, journal, keys, seconds, start, seed):
    cache = Cache(directory, size_limit=1 << 30)
    order = random.Random(seed).sample(keys, len(keys))
    start.wait()
    for key in order:
        entry = cache.get_or_compile(key, lambda key=key: compile_logged(journal, key, seconds))
        log(journal, "right" if entry == entry_of(key) else "wrong", key)


def launch(directory, journal, keys, seconds, seed):
    start = FORK.Event()
    processes = [
        FORK.Process(target=worker, args=(directory, journal, keys, seconds, start, seed + index))
        for index in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    start.set()
    return processes


def test_processes_that_start_at_once_compile_each_entry_once(cache, tmp_path):
    journal = tmp_path / "journal"
    keys = [f"key{index}" for index in range(5)]
    for process in launch(cache.directory, journal, keys, 0.03, seed=0):
        process.join(30)
        assert process.exitcode == 0
    lines = read_log(journal)
    assert sorted(line[1] for line in lines if line[0] == "begin") == keys
    assert sum(line[0] == "right" for line in lines) == PROCESSES * len(keys)
    assert not [line for line in lines if line[0] == "wrong"] and not overlaps(lines)
    assert named(cache.directory, "") == [f"{key}.entry" for key in keys]


def test_killed_processes_leave_no_lock_and_no_bad_entry(cache, tmp_path):
    keys = [f"key{index}" for index in range(4)]
    choose = random.Random(1)
    killed_while_compiling = 0
    for turn in range(6):
        cache.clear()
        journal = tmp_path / f"journal{turn}"
        processes = launch(cache.directory, journal, keys, 0.04, seed=100 * turn)
        victims = choose.sample(processes, 10)
        for victim in victims:
            time.sleep(choose.random() * 0.02)
            # whoever of them compiles now, else anyone
            owners = {owner for _, owner in compiling(read_log(journal))}
            busy = [each for each in victims if each.pid in owners and each.is_alive()]
            (busy or [victim])[0].kill()
        for process in processes:
            process.join(30)
            assert process.exitcode == 0 or process in victims
        lines = read_log(journal)
        killed_while_compiling += len(compiling(lines))
        assert not [line for line in lines if line[0] == "wrong"] and not overlaps(lines)
        survivors = sum(process.exitcode == 0 for process in processes)
        assert survivors >= PROCESSES - len(victims)
        for key in keys:
            assert cache.get_or_compile(key, refuse) == entry_of(key)
    assert killed_while_compiling > 0  # the rounds did meet what they are for


def flipper(directory, keys, stop, seed):
    """Flips bits of entries in place for as long as the others run."""
    choose = random.Random(seed)
    while not stop.is_set():
        path = Path(directory) / f"{choose.choice(keys)}.entry"
        try:
            with open(path, "r+b") as file:
                size = os.fstat(file.fileno()).st_size
                place = choose.randrange(size)
                file.seek(place)
                byte = file.read(1)[0] ^ 1 << choose.randrange(8)
                file.seek(place)
                file.write(bytes([byte]))
        except FileNotFoundError:
            pass
        time.sleep(0.002)


def test_flipped_bits_are_never_loaded(cache, tmp_path):
    keys = [f"key{index}" for index in range(3)]
    journal = tmp_path / "journal"
    stop = FORK.Event()
    enemy = FORK.Process(target=flipper, args=(cache.directory, keys, stop, 5))
    enemy.start()
    try:
        for turn in range(4):
            for process in launch(cache.directory, journal, keys, 0.002, seed=turn):
                process.join(30)
                assert process.exitcode == 0
    finally:
        stop.set()
        enemy.join(30)
    lines = read_log(journal)
    assert sum(line[0] == "right" for line in lines) == 4 * PROCESSES * len(keys)
    assert not [line for line in lines if line[0] == "wrong"] and not overlaps(lines)
    assert sum(line[0] == "begin" for line in lines) > len(keys)  # some were damaged and remade
    cache.verify()
    for key in keys:
        assert cache.get(key) in (None, entry_of(key))
