"""Takes from this process what Windows does not have.

Third-party packages must be imported before: they have their own ways. Then the
modules of the project find neither the modules nor the functions of POSIX, and files
that are open or mapped can be neither removed nor replaced, as on Windows.
"""

import errno
import fcntl
import os
import stat
import sys
import types

_MODULES = (
  'fcntl',
  'grp',
  'pty',
  'pwd',
  'resource',
  'syslog',
  'termios',
  'tty',
)
# From the manual of `os`: "Availability: Unix", and flags that only Unix has.
_NAMES = set(
  [
    'chown',
    'confstr',
    'fchdir',
    'fchmod',
    'fchown',
    'fork',
    'forkpty',
    'fpathconf',
    'fstatvfs',
    'geteuid',
    'getegid',
    'getgid',
    'getgroups',
    'getloadavg',
    'getpgid',
    'getpgrp',
    'getpriority',
    'getresuid',
    'getsid',
    'getuid',
    'killpg',
    'lchown',
    'lockf',
    'major',
    'mkfifo',
    'mknod',
    'nice',
    'openpty',
    'pathconf',
    'posix_fadvise',
    'posix_fallocate',
    'posix_spawn',
    'pread',
    'preadv',
    'pwrite',
    'readv',
    'register_at_fork',
    'sched_getaffinity',
    'sched_setaffinity',
    'sendfile',
    'setgid',
    'setpgid',
    'setpriority',
    'setsid',
    'setuid',
    'statvfs',
    'sync',
    'sysconf',
    'uname',
    'wait',
    'wait3',
    'wait4',
    'waitid',
    'writev',
    'O_CLOEXEC',
    'O_DIRECTORY',
    'O_DSYNC',
    'O_NOCTTY',
    'O_NOFOLLOW',
    'O_NONBLOCK',
    'O_SYNC',
    'O_TMPFILE',
  ]
)


class _Os(types.ModuleType):
  """The module `os` as the project sees it."""

  def __getattr__(self, name):
    if name in _NAMES:
      raise AttributeError(f'Windows has no os.{name}')
    return getattr(os, name)

  def open(self, path, flags, mode=0o777):
    if os.path.isdir(path):
      raise PermissionError(errno.EACCES, 'Permission denied', path)
    return os.open(path, flags, mode)

  def fsync(self, handle):
    if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
      raise OSError(errno.EBADF, 'Bad file descriptor')
    os.fsync(handle)


def _locking(handle, mode, count):
  assert (mode, count) == (2, 1)
  assert stat.S_ISREG(os.fstat(handle).st_mode)
  fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _open_files():
  """Returns the paths of the files that this process has opened or mapped."""
  paths = set()
  for number in os.listdir('/proc/self/fd'):
    try:
      path = os.readlink(f'/proc/self/fd/{number}')
      if os.path.isfile(path):
        paths.add(path)
    except OSError:
      continue
  with open('/proc/self/maps') as maps:
    paths.update(line.split(None, 5)[-1].strip() for line in maps)
  return paths


def _guard(name):
  plain = getattr(os, name)

  def guarded(path, *arguments, **options):
    folder = options.get('dir_fd')
    if folder is not None:
      path = os.path.join(os.readlink(f'/proc/self/fd/{folder}'), path)
      options = {}
    ends = [path] + [x for x in arguments if isinstance(x, str | os.PathLike)]
    places = [os.path.realpath(x) for x in ends]
    for file in _open_files():
      for place in places:
        if file == place or file.startswith(f'{place}{os.sep}'):
          raise PermissionError(errno.EACCES, 'The file is in use', file)
    return plain(path, *arguments, **options)

  setattr(os, name, guarded)


def install():
  """Changes this process for good, before the project is imported."""
  assert not any(name.startswith('vitexco_jax.') for name in sys.modules)
  for name in _MODULES:
    sys.modules[name] = None
  sys.modules['msvcrt'] = types.ModuleType('msvcrt')
  sys.modules['msvcrt'].LK_NBLCK = 2
  sys.modules['msvcrt'].locking = _locking
  for name in ('unlink', 'remove', 'replace', 'rename', 'rmdir'):
    _guard(name)


def hide():
  """Replaces `os` in the modules of the project that are imported."""
  windows = _Os('os')
  count = 0
  for name, module in [*sys.modules.items()]:
    if name.startswith('vitexco_jax.') and getattr(module, 'os', None) is os:
      module.os = windows
      count += 1
  assert count > 5
