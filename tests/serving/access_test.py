"""access: sources of requests, sessions, and their ends."""

import asyncio
import threading

import pytest
from page_client import Client, run

from vitexco_jax.serving import uploads


def test_sessions_are_separate(tmp_path, film):
  async def scenario(server, _):
    async with Client(server) as one, Client(server) as two:
      await one.plan(film)
      await one.do('POST', '/color')
      await one.over()
      state = await two.do('GET', '/state')
      assert not (state['video'] or state['references'] or state['result'])
      for path in (
        '/result',
        '/before',
        '/shots',
        '/reference/3',
        '/frame/0/before',
        '/frame/0/still',
      ):
        assert await two.ask('GET', path) == (404, {'error': 'Not Found'})
      await two.do('POST', '/leave')
      assert (await two.ask('GET', '/state'))[0] == 410
      assert (await one.do('GET', '/state'))['result'] == 'film_color.mp4'
      assert len([*tmp_path.iterdir()]) == 1

  run(tmp_path, scenario)


@pytest.mark.parametrize(
  'method, path, headers, status',
  [
    ('GET', '/', {'Host': 'elsewhere.example'}, 403),  # By DNS rebinding.
    ('GET', '/', {'Host': 'localhost:1'}, 200),
    ('GET', '/', {'Host': 'localhost:99999'}, 400),
    ('POST', '/stop', {'Origin': 'http://elsewhere.example'}, 403),
    ('POST', '/stop', {'Origin': 'null'}, 403),
    ('GET', '/page/%2e%2e/serve.py', {}, 404),
    ('GET', '/page/../serve.py', {}, 404),
    ('GET', '/result?path=/etc/passwd', {}, 404),
    ('GET', '/reference/..%2Fvideo', {}, 404),
    ('GET', f'/reference/{"9" * 5000}', {}, 404),
    ('DELETE', '/reference/1', {}, 400),
    ('GET', '/thumbnail/0', {}, 404),
    ('POST', '/shots', {}, 400),
    ('POST', '/color', {}, 400),
    ('PUT', '/shots/0', {}, 400),
    ('GET', '/frame/0/before', {}, 404),
    ('GET', '/frame/..%2Fvideo/still', {}, 404),
    ('POST', '/try', {}, 400),
    ('PUT', '/state', {}, 405),
  ],
)
def test_refused_requests(tmp_path, method, path, headers, status):
  async def scenario(server, _):
    async with Client(server) as client:
      actual = await client.ask(method, path, headers=headers)
      assert actual[0] == status, actual
      if status != 200:
        assert set(actual[1]) == {'error'}

  run(tmp_path, scenario)


def test_a_session_can_end_while_its_video_is_checked(
  tmp_path, film, monkeypatch
):
  checked, left = threading.Event(), threading.Event()

  def check(_):
    checked.set()
    assert left.wait(60)

  monkeypatch.setattr(uploads, 'check_video', check)

  async def scenario(server, _):
    async with Client(server) as client:
      upload = asyncio.create_task(
        client.ask('PUT', '/video?name=a', data=film)
      )
      await asyncio.to_thread(checked.wait, 60)
      await client.do('POST', '/leave')
      left.set()
      assert (await upload)[0] == 410

  run(tmp_path, scenario)
  assert [*tmp_path.iterdir()] == []


def test_a_link_returns_to_the_session(tmp_path):
  async def scenario(server, _):
    async with Client(server) as client:
      [cookie] = client._session.cookie_jar
      assert (cookie['samesite'], cookie['httponly']) == ('Lax', True)

  run(tmp_path, scenario)
