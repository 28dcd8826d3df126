"""The documentation as a site: strict build, all pages, working links."""

import os
import re
import subprocess
import sys

import pytest
from documents import ROOT

_TARGET = re.compile(r'(?:href|src)="(?![a-z]+:|//)([^"#?]+)')


@pytest.fixture(scope='module')
def site(tmp_path_factory):
  folder = tmp_path_factory.mktemp('site')
  command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--quiet']
  done = subprocess.run(
    [*command, f'--site-dir={folder}'],
    cwd=ROOT,
    env=os.environ | {'NO_MKDOCS_2_WARNING': '1'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return folder


def test_each_document_is_a_page(site):
  documents = [*ROOT.glob('*.md'), *ROOT.glob('docs/*.md')]
  documents += ROOT.glob('weights/*/*.md')
  for path in documents:
    name = path.relative_to(ROOT).with_suffix('')
    page = 'index.html' if path.name == 'README.md' else name / 'index.html'
    assert (site / page).is_file(), path


def test_links_and_pictures_exist(site):
  pages = [path for path in site.rglob('*.html') if path.name != '404.html']
  for page in pages:
    for target in set(_TARGET.findall(page.read_text())):
      path = page.parent / target
      assert path.is_file() or (path / 'index.html').is_file(), (page, target)


def test_nothing_is_loaded_from_other_servers(site):
  for page in site.rglob('*.html'):
    loads = re.findall(r'<(?:script|link|img)[^>]*', page.read_text())
    foreign = [x for x in loads if re.search(r'(?:src|href)="(https?:)?//', x)]
    assert not [x for x in foreign if 'canonical' not in x], page
