"""The flags: their help texts, and paths that do not depend on the folder."""

from pathlib import Path

import pytest
from absl.flags import FLAGS, FlagHolder

from vitexco_jax import weights
from vitexco_jax.cli import flags

DEFINED = [x.name for x in vars(flags).values() if isinstance(x, FlagHolder)]


@pytest.mark.parametrize('name', DEFINED)
def test_a_help_text_continues_the_names_of_the_modes(name):
  text = FLAGS[name].help.partition(';\n')[0]  # absl adds to some.
  assert text.endswith('.')
  first = text.split()[0]
  assert first[0].islower() or not first[1:].islower(), 'not a sentence'


def test_default_files_do_not_depend_on_the_current_folder(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  for path in (
    Path(flags.CONFIG.default),
    weights.find(flags.CHECKPOINT.default),
  ):
    assert path.is_absolute() and path.exists()
