"""Connection limits, timeouts, and logging."""

import asyncio
import contextlib
import types

import pytest
from aiohttp import web

from vitexco_jax.serving import connections


def _run(scenario, *routes):
  async def hello(request):
    return web.Response(text=connections.client(request))

  async def run():
    app = web.Application()
    app.add_routes([web.get('/', hello), *routes])
    async with connections.listening(app, '127.0.0.1', 0) as port:
      await asyncio.wait_for(scenario(port), 30)

  asyncio.run(run())


@contextlib.asynccontextmanager
async def _sent(port, data):
  """Yields a reader of the response."""
  reader, writer = await asyncio.open_connection('127.0.0.1', port)
  writer.write(data)
  try:
    yield reader
  finally:
    writer.close()
    with contextlib.suppress(ConnectionError):
      await writer.wait_closed()


HELLO = b'GET / HTTP/1.1\r\nHost: a\r\n\r\n'


@pytest.mark.parametrize('head', [b'', HELLO[:-2], HELLO, HELLO + HELLO[:9]])
def test_a_client_without_a_request_is_disconnected(monkeypatch, head):
  monkeypatch.setattr(connections, 'IDLE_SECONDS', 0.5)

  async def scenario(port):
    async with _sent(port, head) as reader:
      received = await reader.read()
      assert received.count(b'200 OK') == head.count(HELLO)

  _run(scenario)


def test_a_client_that_does_not_read_is_disconnected(monkeypatch):
  monkeypatch.setattr(connections, 'IDLE_SECONDS', 1.0)
  ended = asyncio.Event()

  async def much(request):
    response = web.StreamResponse()
    await response.prepare(request)
    try:
      while True:
        await response.write(bytes(2**20))
    finally:
      ended.set()

  async def scenario(port):
    async with _sent(port, HELLO.replace(b'/', b'/much', 1)):
      await ended.wait()

  _run(scenario, web.get('/much', much))


@pytest.mark.parametrize('limit', ['_MAX_CONNECTIONS', '_MAX_PER_CLIENT'])
def test_connections_are_limited(monkeypatch, capsys, limit):
  monkeypatch.setattr(connections, limit, 2)

  async def scenario(port):
    async def answered(stack):
      reader = await stack.enter_async_context(_sent(port, HELLO))
      with contextlib.suppress(ConnectionError):
        return b'200 OK' in await reader.read(99)
      return False

    async with contextlib.AsyncExitStack() as stack:
      assert await answered(stack) and await answered(stack)
      assert not await answered(stack) and not await answered(stack)
    async with contextlib.AsyncExitStack() as stack:
      while not await answered(stack):
        await asyncio.sleep(0.05)

  _run(scenario)
  assert '127.0.0.1: too many connections' in capsys.readouterr().err


@pytest.mark.parametrize(
  'data',
  [
    b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(500),  # TLS.
    b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: a\r\nX: ' + b'x' * 100_000 + b'\r\n\r\n',
    b'GET /' + b'x' * 100_000 + b' HTTP/1.1\r\n\r\n',
    b'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n',
    b'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n',
    b'GET http://[::1 HTTP/1.1\r\n\r\n',
    b'\0\n\0\n',
  ],
)
def test_a_bad_request_is_logged_in_one_line(data, capsys):
  async def scenario(port):
    async with _sent(port, data) as reader:
      assert b'400 Bad Request' in await reader.read()
    async with _sent(port, HELLO) as reader:
      assert b'200 OK' in await reader.read(99)

  _run(scenario)
  [line] = capsys.readouterr().err.splitlines()
  assert line.startswith('Error handling request from 127.0.0.1: ')


def _request(peer, forwarded=None):
  transport = types.SimpleNamespace(get_extra_info=lambda _: (peer, 1))
  headers = {} if forwarded is None else {'X-Forwarded-For': forwarded}
  return types.SimpleNamespace(transport=transport, headers=headers)


@pytest.mark.parametrize(
  'peer, forwarded, expected',
  [
    ('192.0.2.1', None, '192.0.2.1'),
    ('192.0.2.1', '198.51.100.1', '192.0.2.1'),  # Anyone can send this header.
    ('127.0.0.1', '198.51.100.1, 192.0.2.7', '192.0.2.7'),
    ('::1', '2001:db8::7', '2001:db8::/64'),
    ('2001:db8::9%eth0', None, '2001:db8::/64'),
    ('::ffff:192.0.2.1', None, '192.0.2.1'),
  ],
)
def test_clients_are_identified_by_address(peer, forwarded, expected):
  assert connections.client(_request(peer, forwarded)) == expected
