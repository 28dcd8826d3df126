"""The working size, given or chosen."""

import pytest

from vitexco_jax.errors import UserError
from vitexco_jax.inference import working_size


@pytest.mark.parametrize(
  'text, memory, expected',
  [
    ('112x192', 0, (112, 192)),
    (None, 10**12, (224, 384)),
    (None, 2 * 8 * 1600 * 224 * 384 // 4, (112, 192)),
    (None, 0, (32, 32)),
  ],
)
def test_the_working_size_is_given_or_fits_into_memory(
  monkeypatch, text, memory, expected
):
  monkeypatch.setattr(working_size, '_memory', lambda: memory)
  assert working_size.working_size(text, (224, 384)) == expected


def test_an_invalid_working_size_is_refused():
  for text in ('112', '112,192', '-1x5', 'x'):
    with pytest.raises(UserError, match='`working_size=.* write HEIGHTxWIDTH'):
      working_size.working_size(text, (224, 384))
  assert working_size._memory() > 1e6
