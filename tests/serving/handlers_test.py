"""handlers: access, limits, and cleanup of sessions."""

import asyncio
import io
import math
import shutil
import threading

import aiohttp
import numpy as np
import pytest
from page_client import Client, run
from page_inputs import COUNT, Stub

from vitexco_jax.errors import UserError
from vitexco_jax.media import video
from vitexco_jax.serving import (
  disk_quota,
)

MB = 10**6


def test_from_upload_to_result(tmp_path, film):
  async def scenario(server, _):
    async with Client(server) as client:
      state = await client.plan(film)
      assert state['planned'] and state['video'] == 'film.mp4'
      assert state['facts'] == {
        **{'width': 96, 'height': 64},
        **{'frames': 2 * COUNT, 'rate': 25.0},
      }
      one, two = (x['number'] for x in state['references'])
      shots = await client.do('GET', '/shots')
      assert [(x['start'], x['stop'], x['references']) for x in shots] == [
        (0, COUNT, [one]),
        (COUNT, 2 * COUNT, [two]),
      ]
      assert shots[1]['from'] == '0:00:00.5'
      assert shots[0]['scores'][0] > shots[0]['scores'][1]
      assert [x['verdicts'] for x in shots] == 2 * [2 * ['same scene']]
      assert [x['coverages'] for x in shots] == 2 * [[1.0, 1.0]]
      await client.do('PUT', '/shots/0', json={'skip': True})
      assert (await client.do('GET', '/shots'))[0]['skipped']
      await client.do('PUT', '/shots/0', json={'references': [two]})
      await client.do('POST', '/color')
      state = await client.over()
      assert state['job']['state'] == 'done' and state['warnings'] == []
      for path in ('/before', '/after', '/thumbnail/1', f'/reference/{one}'):
        content = await client.do('GET', path)
        assert video.decode_image(content, path).shape[2] == 3
      (tmp_path / 'result.mp4').write_bytes(await client.do('GET', '/result'))
      with video.VideoReader(tmp_path / 'result.mp4') as reader:
        assert len([*reader]) == 2 * COUNT
      _, content = await client.ask(
        'GET', '/result', headers={'Range': 'bytes=4-7'}
      )
      assert content == b'ftyp'  # Browsers ask so to wind on.

  run(tmp_path, scenario)


def test_positions_in_the_queue_and_a_stop(tmp_path, film):
  may_go = threading.Semaphore(0)

  async def scenario(server, _):
    async with Client(server) as one, Client(server) as two:
      for client in (one, two):
        await client.plan(film)
      for client in (one, two):
        await client.do('POST', '/color')
      job = (await two.do('GET', '/state'))['job']
      assert (job['state'], job['ahead']) == ('waiting', 1)
      status, content = await two.ask('PUT', '/video?name=a', data=film)
      assert (status, content['error']) == (400, 'stop the running job first')
      await two.do('POST', '/stop')
      assert (await two.over())['job']['state'] == 'stopped'
      may_go.release(100)
      assert (await one.over())['job']['state'] == 'done'

  run(tmp_path, scenario, Stub(may_go))


@pytest.mark.parametrize('length', [True, False])
def test_uploads_are_limited(tmp_path, length):
  async def pieces():
    for _ in range(3):
      yield bytes(MB // 2)

  async def scenario(server, _):
    async with Client(server) as client:
      data = io.BytesIO(bytes(2 * MB)) if length else pieces()  # In chunks.
      status, content = await client.ask('PUT', '/video?name=a', data=data)
      assert status == 400
      assert (
        content['error'] == 'the file is too large: at most 1 MB are allowed'
      )

  run(tmp_path, scenario)
  assert [*tmp_path.rglob('incoming*')] == []


def test_a_broken_upload_leaves_no_files(tmp_path, film):
  async def scenario(server, site):
    async with Client(server) as client:

      async def broken():
        yield film[:1000]
        await asyncio.sleep(0.1)
        raise OSError

      with pytest.raises((OSError, aiohttp.ClientError)):
        await client.ask('PUT', '/video?name=a', data=broken())
      await asyncio.sleep(0.2)
      assert [*tmp_path.rglob('incoming*')] == []
      await client.do('PUT', '/video?name=a', data=film)

  run(tmp_path, scenario)


def test_a_long_upload_keeps_its_session(tmp_path, film):
  async def scenario(server, site):
    async with Client(server) as client:
      [session] = site.sessions

      async def pieces():
        yield film[:1000]
        while not [*tmp_path.rglob('incoming*')]:
          await asyncio.sleep(0.01)
        session.seen = -math.inf
        yield film[1000:2000]
        async with asyncio.timeout(10):
          while session.seen == -math.inf:
            await asyncio.sleep(0.01)
        yield film[2000:]

      await client.do('PUT', '/video?name=a', data=pieces())

  run(tmp_path, scenario)


@pytest.mark.parametrize('length', [True, False])
def test_sessions_share_the_disk(tmp_path, film, monkeypatch, length):
  monkeypatch.setattr(disk_quota, '_SECONDS', 0.0)

  async def pieces():
    for _ in range(40):
      yield bytes(50_000)

  async def scenario(server, _):
    async with Client(server) as one, Client(server) as two:
      await one.do('PUT', '/video?name=a', data=film)
      data = io.BytesIO(bytes(2 * MB)) if length else pieces()
      status, content = await two.ask('PUT', '/video?name=a', data=data)
      assert status == 400 and 'no room left' in content['error']
      assert [*tmp_path.rglob('incoming*')] == []
      await one.do('POST', '/leave')
      await two.do('PUT', '/video?name=a', data=film)

  run(
    tmp_path, scenario, limit=9, quota=disk_quota.DiskQuota(tmp_path, 1.5 * MB)
  )


def test_some_of_the_disk_stays_free(tmp_path, monkeypatch):
  quota = disk_quota.DiskQuota(tmp_path)
  quota.check(1)
  monkeypatch.setattr(disk_quota, '_RESERVE', shutil.disk_usage(tmp_path).total)
  with pytest.raises(UserError, match='no room left on the disk'):
    quota.check()


def test_settings_reach_the_result(tmp_path, film):
  async def scenario(server, _):
    async with Client(server) as client:
      state = await client.plan(film)
      values = state['settings']['values']
      assert values['codec'] == 'h264' and values['working_size'] is None
      bad = values | {'codec': '../../etc'}
      status, content = await client.ask('PUT', '/settings', json=bad)
      assert status == 400 and '`codec` must be one of' in content['error']
      await client.do(
        'PUT', '/settings', json=values | {'codec': 'ffv1', 'saturation': 0}
      )
      await client.do('POST', '/color')
      state = await client.over()
      assert state['result'] == 'film_color.mkv'
      assert state['settings']['values']['codec'] == 'ffv1'
      (tmp_path / 'result.mkv').write_bytes(await client.do('GET', '/result'))
    with video.VideoReader(tmp_path / 'result.mkv') as reader:
      assert np.ptp(np.int16(next(reader).rgb), -1).max() < 4

  run(tmp_path, scenario)


def test_the_sample_is_ready_to_color(tmp_path):
  async def scenario(server, _):
    async with Client(server) as client:
      assert (await client.do('GET', '/state'))['sample']
      await client.do('POST', '/sample')
      state = await client.do('GET', '/state')
      assert state['video'] == 'sample.mp4' and len(state['references']) == 3
      await client.do('POST', '/shots')
      assert (await client.over())['frames'] == 144

  run(tmp_path, scenario)
