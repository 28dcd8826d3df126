"""A client of the page, and a server for it."""

import asyncio
import json

import aiohttp
from aiohttp.test_utils import TestServer
from documents import picture
from page_inputs import Stub, embed, encoded

from vitexco_jax.serving import handlers
from vitexco_jax.serving.jobs import JobQueue


class Client:
  """A client that behaves like a browser."""

  def __init__(self, server):
    self._session = aiohttp.ClientSession(
      base_url=server.make_url('/'),
      cookie_jar=aiohttp.CookieJar(unsafe=True),  # Takes those of numbers, too.
    )

  async def __aenter__(self):
    self.opened = await self.ask('GET', '/')
    return self

  async def __aexit__(self, *_):
    await self._session.close()

  async def ask(self, method, path, **more):
    """Returns the status and the content, with JSON decoded."""
    async with self._session.request(method, path, **more) as answer:
      assert "default-src 'self'" in answer.headers['Content-Security-Policy']
      content = await answer.read()
      if answer.content_type == 'application/json':
        content = json.loads(content)
      return answer.status, content

  async def do(self, method, path, **more):
    status, content = await self.ask(method, path, **more)
    assert status == 200, content
    return content

  async def over(self):
    while (state := await self.do('GET', '/state'))['busy']:
      await asyncio.sleep(0.02)
    return state

  async def plan(self, film):
    await self.do('PUT', '/video?name=film.mp4', data=film)
    for seed in (1, 2):
      path = f'/reference?name=picture{seed}.png'
      await self.do('PUT', path, data=encoded(picture(seed)))
    await self.do('POST', '/shots')
    return await self.over()


def run(folder, scenario, colorizer=None, limit=1, quota=None):
  """Runs `scenario(server, site)`."""

  async def serve():
    with JobQueue() as queue:
      site = handlers.Site(
        colorizer or Stub(), embed, folder, queue, limit, True, quota
      )
      async with TestServer(site.app) as server:
        await scenario(server, site)

  asyncio.run(serve())
