"""The open sessions: their limits, and when they end."""

import asyncio
import threading

import aiohttp
from page_client import Client, run
from page_inputs import Stub

from vitexco_jax.serving import session_table


def test_abandoned_sessions_end(tmp_path, film, monkeypatch):
  monkeypatch.setattr(session_table, '_MAX_SESSIONS', 2)

  async def scenario(server, site):
    async with Client(server) as one, Client(server):
      await one.do('PUT', '/video?name=a', data=film)
      async with Client(server) as third:
        assert third.opened == (
          503,
          {'error': 'too many sessions: try again later'},
        )
      monkeypatch.setattr(session_table, '_ABSENT_SECONDS', 0.0)
      async with Client(server):  # Replaces the second, which is empty.
        assert (await one.do('GET', '/state'))['video'] == 'a'
      monkeypatch.setattr(session_table, '_IDLE_SECONDS', 0.0)
      site.sessions.end_old(0.0)
      assert [*tmp_path.iterdir()] == []
      status, content = await one.ask('GET', '/state')
      assert status == 410 and 'reload the page' in content['error']

  run(tmp_path, scenario)


def test_sessions_per_client_are_limited(tmp_path, film, monkeypatch):
  monkeypatch.setattr(session_table, '_MAX_CLIENT_SESSIONS', 2)

  async def scenario(server, site):
    async def open_from(address):
      headers = {'X-Forwarded-For': address}
      async with aiohttp.request(
        'GET', server.make_url('/'), headers=headers
      ) as x:
        return x.status

    for address, status in (
      ('192.0.2.1', 200),
      ('192.0.2.1', 200),
      ('192.0.2.1', 503),
      ('192.0.2.2', 200),
    ):
      assert await open_from(address) == status
    monkeypatch.setattr(session_table, '_ABSENT_SECONDS', 0.0)
    assert await open_from('192.0.2.1') == 200  # Replaces the first two.
    owners = [session.client for session in site.sessions]
    assert owners == ['192.0.2.2', '192.0.2.1']

  run(tmp_path, scenario)


def test_a_job_keeps_its_session(tmp_path, film, monkeypatch):
  monkeypatch.setattr(session_table, '_IDLE_SECONDS', 0.0)
  may_go = threading.Semaphore(0)

  async def scenario(server, site):
    async with Client(server) as client:
      await client.plan(film)
      await client.do('POST', '/color')
      await asyncio.sleep(0.01)
      site.sessions.end_old()
      may_go.release(100)
      assert (await client.over())['result']

  run(tmp_path, scenario, Stub(may_go))
