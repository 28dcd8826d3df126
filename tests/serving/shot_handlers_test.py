"""shot_handlers: references of shots, and refused requests."""

import pytest
from page_client import Client, run
from page_inputs import COUNT


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


def test_shots_are_divided_and_joined(tmp_path, film):
  async def scenario(server, _):
    async with Client(server) as client:
      await client.plan(film)
      before = await client.do('GET', '/shots')
      await client.do('POST', '/divide', json={'frame': 5})
      shots = await client.do('GET', '/shots')
      edges = [(0, 5), (5, COUNT), (COUNT, 2 * COUNT)]
      assert [(x['start'], x['stop']) for x in shots] == edges
      assert shots[1]['references'] == before[0]['references']
      for frame in (0, 5, COUNT, 2 * COUNT, -1):
        status, _ = await client.ask('POST', '/divide', json={'frame': frame})
        assert status == 400
      await client.do('POST', '/shots')  # Proposes references for the parts.
      assert (await client.over())['job']['state'] == 'done'
      assert len(await client.do('GET', '/shots')) == 3
      await client.do('POST', '/shots/0/join')
      joined = (await client.do('GET', '/shots'))[0]
      assert (joined['start'], joined['stop']) == (0, COUNT)
      assert joined['references'] == before[0]['references']
      assert (await client.ask('POST', '/shots/1/join'))[0] == 400
      await client.do('POST', '/color')
      assert (await client.over())['job']['state'] == 'done'

  run(tmp_path, scenario)


@pytest.mark.parametrize('body', ['[]', '{"frame": "1"}', '{"frame": true}'])
def test_a_division_is_validated(tmp_path, body):
  async def scenario(server, _):
    async with Client(server) as client:
      status, content = await client.ask('POST', '/divide', data=body)
      assert status == 400 and '{"frame": NUMBER}' in content['error']

  run(tmp_path, scenario)
