"""serve: the temporary folder, and addresses."""

import asyncio
import contextlib
import socket

import pytest
from aiohttp import web

from vitexco_jax.errors import UserError
from vitexco_jax.serving import (
  serve,
)


def test_the_folder_is_private_and_removed(tmp_path, monkeypatch):
  monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
  left = tmp_path / 'vitexco-page-left'  # By a program that was killed.
  (left / '0').mkdir(parents=True)
  with serve.temporary_folder() as folder:
    assert [*tmp_path.iterdir()] == [folder]
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / 'video').touch()
    with serve.temporary_folder() as other:  # The first is in use.
      assert {*tmp_path.iterdir()} == {folder, other}
  assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
  'address, expected',
  [
    ('127.0.0.1:7860', ('127.0.0.1', 7860)),
    ('[::1]:0', ('::1', 0)),
    ('localhost:80', ('localhost', 80)),
    ('7860', None),
    ('127.0.0.1', None),
    ('127.0.0.1:x', None),
    (':80', None),
    ('a:65536', None),
  ],
)
def test_addresses(address, expected):
  with contextlib.ExitStack() as stack:
    if expected is None:
      stack.enter_context(pytest.raises(UserError, match='is not HOST:PORT'))
    assert serve.parse_address(address) == expected


@pytest.mark.parametrize('host', ['127.0.0.1', 'a..b'])
def test_an_unavailable_address(host):
  with socket.create_server(('127.0.0.1', 0)) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(
      UserError, match=f'cannot listen on `address={host}:{port}'
    ):
      asyncio.run(serve._listen(web.Application(), host, port))
