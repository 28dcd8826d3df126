"""A hook of MkDocs: the pages of the site have the paths of the repository.

Therefore the same relative links work on the site and in the repository. The pages are
those of `nav`; the files that they link are copied.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_LINK = re.compile(r'\]\(([^)#:\s]+)')


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
  """Replaces the files of `docs/` with those of the whole site."""
  root = Path(config.config_file_path).parent
  theirs = [file for file in files if file.src_dir != config.docs_dir]
  names = set(_pages(config.nav))
  for page in sorted(names):
    for link in _LINK.findall((root / page).read_text()):
      path = (root / page).parent / link
      if path.is_file():
        names.add(path.resolve().relative_to(root).as_posix())
  ours = [
    File(name, str(root), config.site_dir, config.use_directory_urls)
    for name in sorted(names)
  ]
  return Files(theirs + ours)


def _pages(nav: Any) -> Iterator[str]:
  """Yields the paths in `nav`."""
  if isinstance(nav, str):
    yield nav
  else:
    for entry in nav.values() if isinstance(nav, dict) else nav:
      yield from _pages(entry)
