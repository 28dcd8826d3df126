"""weights: names, folders, and hashes."""

import shutil
from pathlib import Path

import pytest

from vitexco_jax import weights
from vitexco_jax.errors import UserError


@pytest.fixture
def mine(tmp_path):
  (tmp_path / 'mine/params/d').mkdir(parents=True)
  (tmp_path / 'mine/config.json').write_text('{}')
  (tmp_path / 'mine/params/d/a').write_bytes(b'numbers')
  return tmp_path / 'mine'


def test_the_weights_of_the_program_from_any_folder(
  tmp_path, monkeypatch, caplog
):
  monkeypatch.chdir(tmp_path)
  path = weights.find('small')
  assert path.is_absolute() and (path / 'config.json').is_file()
  # If this fails after a change of weights/small, update `weights.SHIPPED`.
  assert weights.sha256(path) == weights.SHIPPED['small']
  assert weights.find(f'small@{weights.SHIPPED["small"][:8]}') == path
  assert not caplog.text
  Path('small').mkdir()
  assert weights.find('small') == path
  assert weights.find('./small') == Path('small')


def test_changed_weights_of_the_program_are_reported_once(monkeypatch, caplog):
  monkeypatch.setitem(weights.SHIPPED, 'small', '0' * 64)
  weights._check_shipped.cache_clear()
  for _ in range(3):
    weights.find('small')
  assert caplog.text.count('is not the small of this version') == 1
  weights._check_shipped.cache_clear()


def test_an_export_with_its_hash(mine, tmp_path):
  assert weights.find(mine) == weights.find(str(mine)) == mine
  name = weights.pinned(mine)
  assert weights.find(name) == mine
  copy = tmp_path / 'copy'
  shutil.copytree(mine, copy)
  (copy / 'MODEL_CARD.md').write_text('notes')
  assert weights.pinned(copy) == name.replace('mine', 'copy')
  for change in ('params/d/a', 'params/d/b', 'config.json'):
    shutil.rmtree(copy)
    shutil.copytree(mine, copy)
    (copy / change).write_bytes(b'others')
    with pytest.raises(
      UserError, match='copy has the SHA-256 .*, not [0-9a-f]'
    ):
      weights.find(name.replace('mine', 'copy'))


def test_only_exports_have_a_hash(mine):
  shutil.rmtree(mine / 'params')
  with pytest.raises(UserError, match='only exports have a hash'):
    weights.find(f'{mine}@00000000')
  assert weights.find(mine) == mine


@pytest.mark.parametrize(
  'name, sentence',
  [
    ('smal', 'there is no checkpoint smal; did you mean small?'),
    ('runs/none', 'there is no checkpoint runs/none$'),
    ('none@00000000', 'there is no checkpoint none$'),
    ('small@0000', 'there is no checkpoint small@0000'),
  ],
)
def test_unknown_names(name, sentence):
  with pytest.raises(UserError, match=sentence):
    weights.find(name)


def test_a_folder_may_have_such_a_name(mine):
  odd = mine.rename(mine.with_name('mine@00000000'))
  assert weights.find(odd) == odd
