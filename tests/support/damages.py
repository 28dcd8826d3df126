"""Ways to damage a file."""

import os


def truncate(path):
  path.write_bytes(path.read_bytes()[:-1])


def flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def extend(path):
  path.write_bytes(path.read_bytes() + b'\0')


def empty(path):
  path.write_bytes(b'')


def become_folder(path):
  path.unlink()
  path.mkdir()


def become_pipe(path):
  path.unlink()
  os.mkfifo(path)


def become_broken_link(path):
  path.unlink()
  path.symlink_to('nowhere')


def remove(path):
  path.unlink()


DAMAGES = [
  truncate,
  flip,
  extend,
  empty,
  remove,
  become_folder,
  become_pipe,
  become_broken_link,
]
