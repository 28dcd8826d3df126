"""The notebook, run on a toy clip with toy weights."""

from pathlib import Path

import nbclient
import nbformat
import pytest
from calls import environment
from documents import frames, write_video

from vitexco_jax.media import video

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / 'integrations/colab/vitexco.ipynb'


@pytest.fixture
def notebook():
  return nbformat.read(NOTEBOOK, as_version=4)


def _set_parameters(notebook, **values):
  """Replaces values in the cell of the parameters; each must exist."""
  (cell,) = (
    x for x in notebook.cells if 'parameters' in x.metadata.get('tags', [])
  )
  defaults = {}
  exec(cell.source, defaults)
  assert set(values) <= set(defaults)
  cell.source += ''.join(f'\n{x} = {y!r}' for x, y in values.items())


def test_runs_from_start_to_end(notebook, tmp_path, tiny_weights, monkeypatch):
  write_video(tmp_path / 'clip.mp4', frames(0))
  _set_parameters(
    notebook, CLIP='clip.mp4', SIZE=(48, 64), WEIGHTS=str(tiny_weights)
  )
  # The checkout is importable, so that nothing is installed.
  for name, value in environment(devices=1).items():
    monkeypatch.setenv(name, value)
  monkeypatch.setenv('PYTHONPATH', str(ROOT))
  monkeypatch.setenv('IPYTHONDIR', str(tmp_path / 'ipython'))
  client = nbclient.NotebookClient(
    notebook, timeout=300, resources={'metadata': {'path': str(tmp_path)}}
  )
  client.execute()
  outputs = [x for cell in notebook.cells for x in cell.get('outputs', [])]
  kinds = [set(x.get('data', {})) for x in outputs]
  assert sum('image/png' in kind for kind in kinds) == 1
  (shown,) = (x.data for x in outputs if 'text/html' in x.get('data', {}))
  assert '<video' in shown['text/html'] and 'base64' in shown['text/html']
  with video.VideoReader(tmp_path / 'color.mp4') as reader:
    assert len(list(reader)) == 6


def test_is_stored_without_outputs(notebook):
  nbformat.validate(notebook)
  for cell in notebook.cells:
    assert not cell.get('outputs') and not cell.get('execution_count')
