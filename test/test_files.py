# SPDX-License-Identifier: Apache-2.0
"""Files appear whole under their name, or not at all; what is no regular file is refused."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from lw_refinenet_ros.files import (
    lock_folder,
    new_file,
    open_regular,
    read_regular,
    regular_file,
    write_atomically,
    write_json,
)


def test_the_old_content_is_there_until_the_new_is_whole(tmp_path):
    path = tmp_path / 'x'
    path.write_text('old')

    def write(temporary):
        temporary.write_text('ne')
        assert path.read_text() == 'old'
        temporary.write_text('new')

    write_atomically(path, write)
    assert path.read_text() == 'new'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('error', [ValueError('no'), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there_and_nothing_beside_it(tmp_path, error):
    path = tmp_path / 'x'
    path.write_text('old')

    def write(temporary):
        temporary.write_text('half')
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_may_be_read_by_whom_new_files_may_be_read_whoever_writes_it(tmp_path):
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / 'x', lambda file: (file.write_text('x'), file.chmod(0o600)))
    finally:
        os.umask(before)
    assert (tmp_path / 'x').stat().st_mode & 0o777 == 0o644


def test_an_error_of_the_disk_names_the_file_and_not_the_temporary_one(tmp_path):
    (tmp_path / 'folder').mkdir()
    with pytest.raises(OSError, match=rf"Is a directory: '{tmp_path}/folder'$"):
        write_atomically(tmp_path / 'folder', lambda file: file.write_text('x'))
    (tmp_path / 'folder').rmdir()
    program = (
        'import sys\nfrom lw_refinenet_ros.files import write_atomically\n'
        'write_atomically(sys.argv[1], lambda file: file.write_bytes(bytes(5000)))\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', program, tmp_path / 'x'],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert done.stderr.splitlines()[-1] == f"OSError: [Errno 27] File too large: '{tmp_path}/x'"
    assert not list(tmp_path.iterdir())


def test_a_folder_is_held_by_one_process_until_it_ends_however_it_ends(tmp_path):
    program = (
        'import sys, time, pathlib\nfrom lw_refinenet_ros.files import lock_folder\n'
        'with lock_folder(pathlib.Path(sys.argv[1])):\n    print("held", flush=True)\n    sys.stdin.read()\n'
    )
    holder = subprocess.Popen(
        [sys.executable, '-c', program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == 'held\n'
        with pytest.raises(ValueError, match='in use by another process'), lock_folder(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with lock_folder(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / 'other').write_text('mine')
    (tmp_path / '.lw_refinenet.lock').symlink_to('other')
    with pytest.raises(OSError, match='symbolic link'), lock_folder(tmp_path):
        pass
    assert (tmp_path / 'other').read_text() == 'mine'


def test_missing_folders_are_made_and_are_gone_again_after_a_failure(tmp_path):
    path = tmp_path / 'a' / 'b' / 'x'

    def fail(_):
        raise ValueError

    with pytest.raises(ValueError):
        write_atomically(path, fail)
    assert list(tmp_path.iterdir()) == []
    write_atomically(path, lambda file: file.write_text('x'))
    assert path.read_text() == 'x'


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    mine, link = tmp_path / 'mine', tmp_path / 'link'
    mine.write_text('mine')
    link.symlink_to(mine)
    write_atomically(link, lambda file: file.write_text('new'))
    assert mine.read_text() == 'mine'
    assert not link.is_symlink()
    assert link.read_text() == 'new'


def test_temporary_names_cannot_be_foreseen_and_long_names_still_have_one(tmp_path):
    path = tmp_path / ('\N{GREEK SMALL LETTER ALPHA}' * 127)
    names = set()
    for _ in range(2):
        with new_file(path) as temporary:
            names.add(temporary.name)
    assert len(names) == 2
    assert path.is_file()


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path, flushed = tmp_path / 'x', []
    fsync = os.fsync

    def seen(descriptor):
        flushed.append((str(Path(f'/proc/self/fd/{descriptor}').readlink()), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, 'fsync', seen)
    write_atomically(path, lambda file: file.write_text('x'))
    (content, named_before), (folder, named) = flushed
    assert content.endswith('.tmp')
    assert folder == str(tmp_path)
    assert (named_before, named) == (False, True)


def test_what_git_left_in_place_of_a_large_file_is_named_with_the_remedy(tmp_path):
    path = tmp_path / 'drive.db3'
    path.write_text(f'version https://git-lfs.github.com/spec/v1\noid sha256:{"a" * 64}\nsize 12345\n')
    for read in (regular_file, open_regular, lambda path: read_regular(path, 999)):
        with pytest.raises(ValueError, match=f'{path} is a Git LFS pointer, .*: run git lfs pull'):
            read(path)


def test_what_is_no_regular_file_is_named_with_its_kind(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    for path, kind in (
        (tmp_path, 'a folder'),
        (tmp_path / 'pipe', 'a pipe'),
        ('/dev/zero', 'a character device'),
    ):
        for read in (regular_file, open_regular, lambda path: read_regular(path, 9)):
            with pytest.raises(ValueError, match=f'{path} is {kind}, not a regular file'):
                read(path)
    (tmp_path / 'file').touch()
    (tmp_path / 'link').symlink_to('file')
    assert regular_file(str(tmp_path / 'link')) == tmp_path / 'link'
    with pytest.raises(FileNotFoundError):
        regular_file(tmp_path / 'nothing')


def test_a_file_is_read_up_to_the_bound_and_no_larger_one(tmp_path):
    (tmp_path / 'x').write_bytes(b'nine byte')
    assert read_regular(tmp_path / 'x', 9) == b'nine byte'
    with pytest.raises(ValueError, match='larger than the 8 bytes'):
        read_regular(tmp_path / 'x', 8)


def test_a_file_name_that_is_not_utf8_comes_back_from_json_as_it_was(tmp_path):
    name = os.fsdecode(b'film\xe9.avi')
    write_json(tmp_path / 'x.json', {'sources': [name], name: 'é'})
    assert json.loads((tmp_path / 'x.json').read_text('utf-8')) == {'sources': [name], name: 'é'}
