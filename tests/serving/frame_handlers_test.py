"""frame_handlers: frames to look at, to color by hand, and to try."""

import numpy as np
import pytest
from page_client import Client, run
from page_inputs import COUNT, encoded

from vitexco_jax.media import video


def _spread(data):
  """Mean difference of the channels: about 0 for gray."""
  return np.ptp(np.int16(video.decode_image(data, 'frame')), -1).mean()


def test_a_saved_frame_comes_back_as_a_reference(tmp_path, film):
  async def scenario(server, _):
    async with Client(server) as client:
      await client.plan(film)
      number = COUNT + 5
      gray = await client.do('GET', f'/frame/{number}/before')
      still = await client.do('GET', f'/frame/{number}/still')
      assert (
        still.startswith(b'\x89PNG') and max(_spread(gray), _spread(still)) < 2
      )
      rgb = video.decode_image(still, 'still')
      assert rgb.shape == (64, 96, 3)
      colored = encoded(np.uint8(rgb * np.float32([1, 0.7, 0.5])))
      path = f'/reference?name=ref_{number:06d}.png'
      await client.do('PUT', path, data=colored)
      first, second = await client.do('GET', '/shots')
      bound = (await client.do('GET', '/state'))['references'][2]
      assert bound['frame'] == number and second['references'] == [
        bound['number']
      ]
      assert bound['number'] not in first['references']
      assert second['scores'][2] is None  # It was not compared.
      await client.do('POST', '/color')
      assert (await client.over())['colored'] == [[0, 2 * COUNT]]
      after = await client.do('GET', f'/frame/{number}/after')
      assert _spread(after) > 5

  run(tmp_path, scenario)


def test_frames_can_be_tried(tmp_path, film):
  async def scenario(server, _):
    async with Client(server) as client:
      await client.plan(film)
      assert (await client.ask('GET', '/frame/3/after'))[0] == 404
      await client.do('POST', '/try', json={'frame': 3})
      state = await client.over()
      assert state['colored'] == [[3, 4]] and state['job']['done'] == 1
      assert _spread(await client.do('GET', '/frame/3/after')) > 2
      await client.do('POST', '/try', json={'frame': None})
      middles = [COUNT // 2, COUNT + COUNT // 2]
      assert (await client.over())['colored'] == [[x, x + 1] for x in middles]
      shots = await client.do('GET', '/shots')
      assert [x['trial'] for x in shots] == middles
      await client.do('PUT', '/shots/1', json={'skip': True})
      assert (await client.do('GET', '/state'))['colored'] == [[6, 7]]
      status, content = await client.ask('POST', '/try', json={'frame': 20})
      assert status == 400 and 'stays as it is' in content['error']

  run(tmp_path, scenario)


@pytest.mark.parametrize('body', [{}, {'frame': '1'}, {'frame': True}, [1]])
def test_a_trial_is_validated(tmp_path, body):
  async def scenario(server, _):
    async with Client(server) as client:
      status, content = await client.ask('POST', '/try', json=body)
      assert status == 400 and 'NUMBER or null' in content['error']

  run(tmp_path, scenario)


def test_frames_that_do_not_exist(tmp_path, film):
  async def scenario(server, _):
    async with Client(server) as client:
      await client.plan(film)
      for path in ('before', 'still'):
        status, content = await client.ask('GET', f'/frame/{2 * COUNT}/{path}')
        assert (status, content['error']) == (
          400,
          f'there is no frame {2 * COUNT}',
        )
      assert (await client.ask('GET', f'/frame/{2 * COUNT}/after'))[0] == 404

  run(tmp_path, scenario)
