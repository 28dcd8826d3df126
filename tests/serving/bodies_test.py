"""Bodies of requests: time limits."""

import asyncio

import pytest
from page_client import Client, run

from vitexco_jax.serving import connections


@pytest.mark.parametrize(
  'method, path', [('PUT', '/video'), ('PUT', '/shots/0')]
)
def test_a_stalled_body_times_out(tmp_path, monkeypatch, method, path):
  monkeypatch.setattr(connections, 'IDLE_SECONDS', 0.2)

  async def scenario(server, _):
    async with Client(server) as client:

      async def pieces():
        yield b'{'
        await asyncio.sleep(30)

      status, content = await client.ask(method, path, data=pieces())
      assert status == 408 and 'the upload stopped' in content['error']
      assert [*tmp_path.rglob('incoming*')] == []

  run(tmp_path, scenario)
