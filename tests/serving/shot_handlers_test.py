"""shot_handlers: references of shots, and refused requests."""

import pytest
from page_client import Client, run


@pytest.mark.parametrize(
  'body, headers',
  [
    *((body, {}) for body in ('', '[]', '{}', '[' * 200_000, b'\xff')),
    *((f'{{"references": {x}}}', {}) for x in ('1', '["1"]', '[true]')),
    *((f'{{"skip": {x}}}', {}) for x in ('1', 'null', '"yes"')),
    ('{}', {'Content-Type': 'text/plain; charset=klingon'}),
    ('{}', {'Content-Encoding': 'gzip'}),
  ],
)
def test_a_choice_is_validated(tmp_path, body, headers):
  async def scenario(server, _):
    async with Client(server) as client:
      status, content = await client.ask(
        'PUT', '/shots/0', data=body, headers=headers
      )
      assert status == 400 and 'error' in content

  run(tmp_path, scenario)


def test_a_missing_reference_is_refused(tmp_path, film):
  async def scenario(server, _):
    async with Client(server) as client:
      await client.plan(film)
      before = await client.do('GET', '/shots')
      for path, numbers in (
        ('/shots/0', [99]),
        ('/shots/2', [3]),
      ):
        status, _ = await client.ask('PUT', path, json={'references': numbers})
        assert status == 400
      assert await client.do('GET', '/shots') == before

  run(tmp_path, scenario)


def test_a_prior_needs_no_reference(tmp_path, film):
  async def scenario(server, _):
    async with Client(server) as client:
      await client.do('PUT', '/video?name=film.mp4', data=film)
      await client.do('POST', '/shots')
      await client.over()
      shots = await client.do('GET', '/shots')
      assert [shot['references'] for shot in shots] == [[], []]
    async with Client(server) as client:
      await client.plan(film)
      await client.do('PUT', '/shots/0', json={'references': []})
      first, second = await client.do('GET', '/shots')
      assert first['references'] == [] != second['references']

  run(tmp_path, scenario)


def test_a_shot_is_left_as_it_is_and_back(tmp_path, film):
  async def scenario(server, _):
    async with Client(server) as client:
      edits = (await client.plan(film))['edits']
      before = await client.do('GET', '/shots')
      await client.do('PUT', '/shots/1', json={'skip': True})
      state = await client.do('GET', '/state')
      assert state['edits'] > edits  # So the page asks again.
      assert (await client.do('GET', '/shots'))[1]['skipped']
      await client.do('PUT', '/shots/1', json={'skip': False})
      assert await client.do('GET', '/shots') == before

  run(tmp_path, scenario)
