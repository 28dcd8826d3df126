"""End-to-end test of the page: a real browser and the serving program."""

import asyncio
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request

import calls
import numpy as np
import pytest
import tiny_weights
from documents import picture
from page_inputs import Stub, embed, encoded, write_film
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from vitexco_jax.media import video
from vitexco_jax.serving import connections, handlers
from vitexco_jax.serving.jobs import JobQueue

COUNT = 60  # Frames of each shot: enough to stop in the middle.
SECONDS = 240  # To wait for anything.
QUIET = (
  'headless',
  'no-sandbox',
  'disable-gpu',
  'disable-quic',
  'no-first-run',
  'disable-background-networking',
  'disable-component-update',
  'disable-sync',
  'disable-dev-shm-usage',
)


@pytest.fixture(scope='session')
def weights(tmp_path_factory):
  """Weights that recognize a picture."""
  path = tmp_path_factory.mktemp('alike') / 'tiny'
  tiny_weights.write(path, alike=True)
  return path


@pytest.fixture(params=[signal.SIGTERM])
def address(tmp_path, weights, request):
  """Address of a page; its program is stopped, and must leave no files."""
  if signal.getsignal(request.param) == signal.SIG_IGN:
    pytest.skip('the signal is ignored here, as under nohup')
  temporary = tmp_path / 'temporary'
  temporary.mkdir()
  server = subprocess.Popen(
    [
      sys.executable,
      calls.ROOT / 'launch.py',
      '--mode=serve',
      '--address=127.0.0.1:0',
      f'--checkpoint={weights}',
    ],
    stdout=subprocess.PIPE,
    text=True,
    env=calls.environment(1) | {'TMPDIR': str(temporary)},
  )
  with server:
    try:
      actual = re.match(
        r'Open (http://127\.0\.0\.1:\d+) ', server.stdout.readline()
      )
      yield actual[1]
      assert [*temporary.iterdir()]
      server.send_signal(request.param)
      assert server.wait(SECONDS) == 0
      assert server.stdout.read() == 'All uploaded files are removed.\n'
      assert [*temporary.iterdir()] == []
    finally:
      server.kill()


@pytest.fixture
def painted(tmp_path):
  """Address of a page that paints colors without networks."""
  started, ended = queue.SimpleQueue(), threading.Event()
  folder = tmp_path / 'sessions'
  folder.mkdir()

  async def serve():
    with JobQueue() as jobs:
      site = handlers.Site(Stub(), embed, folder, jobs, 10, True)
      async with connections.listening(site.app, '127.0.0.1', 0) as port:
        started.put(f'http://127.0.0.1:{port}')
        await asyncio.to_thread(ended.wait)

  thread = threading.Thread(target=lambda: asyncio.run(serve()))
  thread.start()
  yield started.get(timeout=SECONDS)
  ended.set()
  thread.join(SECONDS)


@pytest.fixture
def browser(tmp_path, monkeypatch):
  programs = [
    shutil.which('chromium') or shutil.which('google-chrome'),
    shutil.which('chromedriver'),
  ]
  if None in programs:
    pytest.skip('needs Chromium and chromedriver')
  monkeypatch.setenv(
    'SE_OFFLINE', 'true'
  )  # Selenium downloads and reports nothing.
  monkeypatch.setenv('SE_AVOID_STATS', 'true')
  options = webdriver.ChromeOptions()
  options.binary_location = programs[0]
  for name in QUIET:
    options.add_argument(f'--{name}')
  options.add_experimental_option(
    'prefs', {'download.default_directory': str(tmp_path / 'downloads')}
  )
  options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
  service = webdriver.ChromeService(programs[1])
  with webdriver.Chrome(options, service) as browser:
    yield browser


@pytest.mark.parametrize(
  'address', [signal.SIGTERM, signal.SIGHUP], indirect=True
)
def test_the_program_serves_and_ends(address):
  with urllib.request.urlopen(address) as answer:
    assert '<title>Vitexco</title>' in answer.read().decode()


class _Page:
  """A page in a browser."""

  def __init__(self, browser, address):
    self.browser = browser
    browser.get(address)

  def find(self, css):
    return self.browser.find_element(By.CSS_SELECTOR, css)

  def find_all(self, css):
    return self.browser.find_elements(By.CSS_SELECTOR, css)

  def wait(self, condition):
    return WebDriverWait(
      self.browser, SECONDS, 0.05, [StaleElementReferenceException]
    ).until(lambda _: condition())

  def click(self, css):
    self.wait(
      lambda: self.find(css).is_displayed() and self.find(css).is_enabled()
    )
    # The progress may cover the bottom of the window.
    self.browser.execute_script(
      "arguments[0].scrollIntoView({block: 'center'})", self.find(css)
    )
    self.find(css).click()

  def titles(self, css):
    return [x.get_attribute('title') for x in self.find_all(css)]

  def is_loaded(self, name):
    script = f'return {name}.naturalWidth'
    return self.browser.execute_script(script) == 96


def test_a_film_is_colored_in_a_browser(tmp_path, browser, address):
  write_film(tmp_path / 'film.mp4', COUNT)
  for name, seed in (('one', 1), ('<b>two', 2)):
    (tmp_path / f'{name}.png').write_bytes(encoded(picture(seed)))
  page = _Page(browser, address)
  find, find_all, wait, click = page.find, page.find_all, page.wait, page.click

  find('#video').send_keys(str(tmp_path / 'one.png'))
  wait(find('#error').is_displayed)
  assert 'one.png is damaged or not a supported video' in find('#error').text

  find('#video').send_keys(str(tmp_path / 'film.mp4'))
  wait(lambda: find('#video-text').text == 'film.mp4')
  assert not find('#error').is_displayed()
  assert find('#facts').text == (
    f'96x64 pixels · 25 frames per second · {2 * COUNT} frames · 0:05'
  )
  for number, name in enumerate(('one', '<b>two'), 1):
    find('#references').send_keys(str(tmp_path / f'{name}.png'))
    wait(lambda number=number: len(find_all('#pictures li')) == number)
  assert find_all('#pictures .name')[1].text == '<b>two.png'  # As text.

  click('#find')
  wait(lambda: len(find_all('#shots li')) == 2)
  assert find('#poster').is_displayed()
  _check_a_phone(browser)
  chosen = '#shots li:nth-child(2) button[aria-pressed=true]'
  assert page.titles(chosen) == ['<b>two.png']
  click('#shots li:nth-child(2) button[title="one.png"]')
  wait(lambda: len(find_all(chosen)) == 2)

  first = '#shots li:nth-child(1)'
  pressed = f'{first} button[aria-pressed=true]'
  before = page.titles(pressed)
  click(f'{first} .skip')
  wait(lambda: [x.text for x in find_all(pressed)] == ['leave as it is'])
  assert browser.switch_to.active_element.get_attribute('id') == 'skip-0'
  click(f'{first} .skip')  # The earlier choice returns.
  wait(lambda: page.titles(pressed) == before)
  click('#color')
  click('#stop')
  wait(lambda: find('#status').text.startswith('Stopped.'))
  browser.refresh()  # The session is still there, with its choices.
  wait(lambda: len(find_all(chosen)) == 2)
  click('#color')
  wait(find('#stop').is_displayed)
  wait(lambda: not find('#stop').is_displayed())
  assert find('#status').text == 'Done.'
  assert browser.title == 'Done · Vitexco'

  wait(lambda: page.is_loaded('before') and page.is_loaded('after'))
  browser.execute_script(
    "slider.value = 25; slider.dispatchEvent(new Event('input'))"
  )
  cut = browser.execute_script('return getComputedStyle(after).clipPath')
  assert cut == 'inset(0px 0px 0px 25%)'
  assert browser.execute_script('return result.error') is None

  find('#download').click()
  path = tmp_path / 'downloads/film_color.mp4'
  wait(path.exists)
  with video.VideoReader(path) as reader:
    colored = [frame.rgb for frame in reader]
  assert len(colored) == 2 * COUNT
  assert np.ptp(np.int16(colored[-1]), -1).mean() > 2  # No longer gray.

  click('#leave')
  browser.switch_to.alert.accept()
  wait(lambda: 'Drop a video here' in find('#video-text').text)
  serious = [x for x in browser.get_log('browser') if x['level'] == 'SEVERE']
  # Only the refused video.
  assert len(serious) == 1 and '/video?name=one.png' in serious[0]['message']


def test_frames_are_tried_and_repaired_in_a_browser(tmp_path, browser, painted):
  write_film(tmp_path / 'film.mp4')
  (tmp_path / 'one.png').write_bytes(encoded(picture(1)))
  page = _Page(browser, painted)
  find, wait, click = page.find, page.wait, page.click
  find('#video').send_keys(str(tmp_path / 'film.mp4'))
  wait(lambda: find('#video-text').text == 'film.mp4')
  find('#references').send_keys(str(tmp_path / 'one.png'))
  wait(lambda: page.find_all('#pictures li'))
  click('#find')
  wait(lambda: find('#caption').text.startswith('Frame 0 · 0:00 · shot 1'))
  assert 'not colored yet' in find('#caption').text
  find('#number').send_keys(Keys.CONTROL, 'a', Keys.NULL, '17', Keys.ENTER)
  wait(lambda: 'Frame 17 · 0:01 · shot 2' in find('#caption').text)
  find('#frame').send_keys(Keys.ARROW_RIGHT)
  wait(lambda: 'Frame 18' in find('#caption').text)
  wait(lambda: page.is_loaded('before'))
  assert not find('#after').is_displayed()
  click('#divide')
  wait(lambda: 'shot 3' in find('#caption').text)
  click('#join-1')
  wait(lambda: len(page.find_all('#shots li')) == 2)
  click('#try')
  wait(find('#after').is_displayed)
  assert 'before and after' in find('#caption').text
  wait(lambda: len(page.find_all('#shots .look')) == 3)
  click('#try-all')
  wait(lambda: len(page.find_all('#shots .look')) == 4)

  click('#save')
  path = tmp_path / 'downloads/ref_000018.png'
  wait(path.exists)
  rgb = video.read_image(path)
  path.write_bytes(encoded(np.uint8(rgb * np.float32([1, 0.7, 0.5]))))
  find('#references').send_keys(str(path))
  chosen = '#shots li:nth-child(2) .choices button[aria-pressed=true]'
  wait(lambda: page.titles(chosen) == ['ref_000018.png'])
  assert find(chosen).text == 'frame 18'
  _check_the_settings(page)
  click('#color')
  wait(lambda: find('#status').text == 'Done.')
  wait(find('#after').is_displayed)
  assert find('#color').text == 'Colorize what has changed'
  assert find('#download').get_attribute('download') == 'film_color.mp4'
  messages = [x for x in browser.get_log('browser') if x['level'] == 'SEVERE']
  # A picture may be requested just when a change drops it.
  assert all('/after?' in x['message'] for x in messages)


def _check_the_settings(page):
  """Settings reach the server, which keeps them."""
  page.click('summary')

  def change(name, value):
    page.browser.execute_script(
      'arguments[0].value = arguments[1];'
      "arguments[0].dispatchEvent(new Event('change', {bubbles: true}))",
      page.find(f'[name={name}]'),
      value,
    )

  def value(name):
    return page.find(f'[name={name}]').get_attribute('value')

  change('codec', 'ffv1')
  page.wait(lambda: not page.find('[name=quality]').is_enabled())
  change('codec', 'h264')
  page.wait(lambda: page.find('[name=quality]').is_enabled())
  change('saturation', '1.5')
  page.wait(lambda: value('saturation') == '1.5')
  assert not page.find('#error').is_displayed()
  page.browser.refresh()
  page.wait(lambda: value('saturation') == '1.5')


def _check_a_phone(browser):
  """Nothing is cut off, and the colors follow the settings of the system."""
  metrics = {'width': 390, 'height': 844, 'deviceScaleFactor': 1}
  browser.execute_cdp_cmd(
    'Emulation.setDeviceMetricsOverride', metrics | {'mobile': True}
  )
  measure = """
    const list = document.getElementById('shots');
    list.scrollIntoView();
    return [document.documentElement.scrollWidth, list.scrollHeight,
      list.clientHeight, list.clientHeight / list.children.length];"""
  width, content, box, height = browser.execute_script(measure)
  assert width == 390 and content == box and height < 844 / 4
  backs = set()
  for scheme in ('light', 'dark'):
    media = [{'name': 'prefers-color-scheme', 'value': scheme}]
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': media})
    backs.add(
      browser.execute_script(
        'return getComputedStyle(document.body).backgroundColor'
      )
    )
  assert len(backs) == 2
  browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
