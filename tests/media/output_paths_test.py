"""output_paths: which existing files may be replaced."""

import pytest
from written_videos import HEIGHT, WIDTH, blocks, read, write

from vitexco_jax.errors import UserError
from vitexco_jax.media.video import Format, VideoWriter


@pytest.mark.parametrize('name', ['a.mp4', 'a.png', 'folder'])
def test_existing_output_is_refused_unless_overwrite(tmp_path, name):
  path = write(tmp_path / name, [blocks()])
  with pytest.raises(UserError, match=f'{name} .*`overwrite`'):
    VideoWriter(path, Format(HEIGHT, WIDTH))
  write(path, [blocks(32, 32)], overwrite=True)
  assert read(path)[0][0].rgb.shape == (32, 32, 3)
  assert [p.name for p in tmp_path.iterdir()] == [name]


def test_an_empty_folder_is_used_and_other_files_are_not_deleted(tmp_path):
  folder = tmp_path / 'out'
  folder.mkdir()
  write(folder, [blocks()])
  (folder / 'thesis.tex').write_text('years of work')
  with pytest.raises(UserError, match=r'thesis\.tex'):
    VideoWriter(folder, Format(HEIGHT, WIDTH), overwrite=True)


def test_output_of_an_unknown_kind_is_refused(tmp_path):
  with pytest.raises(UserError, match=r'a\.xyz cannot be written'):
    VideoWriter(tmp_path / 'a.xyz', Format(HEIGHT, WIDTH))
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='is a file'):
    VideoWriter(tmp_path / 'file', Format(HEIGHT, WIDTH), overwrite=True)
  with pytest.raises(UserError, match=r'cannot write .*a\.mp4'):
    VideoWriter(tmp_path / 'file' / 'a.mp4', Format(HEIGHT, WIDTH))
  assert [p.name for p in tmp_path.iterdir()] == ['file']
