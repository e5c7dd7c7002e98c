"""Where results lie: a folder or file of this machine, or of any file system that a URL names.

URLs are opened by `pyarrow.fs` where it knows them (file, s3, gs, hdfs, abfs), and by fsspec otherwise (memory, ftp,
az, ...). A place holds text alone, so that it travels to workers, which open the file system for themselves; keys and
passwords come from the environment, and those that stand in a URL are in nothing that is shown or stored.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit
from uuid import uuid4

from sweep.errors import InputError, problem

# Of a URL's query only these are shown: where the store answers. Everything else may be a key.
_SHOWN = ("region", "scheme", "endpoint_override")
_CONTAINERS = ("abfs", "abfss", "wasb", "wasbs")  # what stands before their @ is a container
_REASON = 300  # characters of a file system's own message
# Without a limit a store that does not answer, or a machine without credentials for it, is tried for 15 minutes.
_PATIENCE = dict.fromkeys(("gs", "gcs"), ("retry_limit_seconds", "20"))
_REMEDY = "check the URL, its parameters and that it can be reached from here"
_USER = 8  # characters of a user name that may be an access key


@dataclass(frozen=True, slots=True, order=True, repr=False)
class Place:
    """A folder or a file. Its operations are named as those of `pathlib.Path`.

    Attributes
    ----------
    root
        URL of the file system; empty for the files of this machine.
    path
        Path within the file system.
    """

    root: str
    path: str

    def __truediv__(self, name: str) -> Place:
        return Place(self.root, str(PurePosixPath(self.path, name)))

    def __fspath__(self) -> str:
        if self.root:
            raise TypeError(f"{self} is no file of this machine")
        return self.path

    def __str__(self) -> str:
        """The path, or the URL without keys and passwords."""
        if not self.root:
            return self.path
        url = urlsplit(self.root)
        user, _, host = url.netloc.rpartition("@")
        kept = f"{user.partition(':')[0]}@" if url.scheme in _CONTAINERS and user else ""
        query = [(name, value) for name, value in parse_qsl(url.query) if name in _SHOWN and "@" not in value]
        return f"{url.scheme}://{kept}{host}/{self.path}" + (f"?{urlencode(query, safe=':/')}" if query else "")

    __repr__ = __str__

    @property
    def local(self) -> Path | None:
        """The path, where it is one of this machine."""
        return None if self.root else Path(self.path)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return PurePosixPath(self.path).name

    @property
    def parent(self) -> Place:
        """The folder that it is in."""
        above = str(PurePosixPath(self.path).parent)
        return Place(self.root, "" if self.root and above == "." else above)

    def resolve(self) -> Place:
        """The place by its full name."""
        return self if self.local is None else Place("", str(self.local.resolve()))

    # ------------------------------------------------------------------------------------------------ looking
    def infos(self) -> list[Any]:
        """What is in a folder, as `pyarrow.fs.FileInfo` by ascending name; nothing where there is no folder."""
        from pyarrow.fs import FileSelector

        with self._files() as (files, path):
            found = files.get_file_info(FileSelector(path, allow_not_found=True))
            return sorted(found, key=lambda info: info.base_name)

    def info(self) -> Any:
        """What is here, as `pyarrow.fs.FileInfo`."""
        with self._files() as (files, path):
            return files.get_file_info([path])[0]

    def iterdir(self) -> Iterator[Place]:
        """The places in a folder, by ascending name."""
        return (self / info.base_name for info in self.infos())

    def exists(self) -> bool:
        """Whether there is a file or a folder; where no path can be so named, there is none."""
        if self.local is not None:
            return os.path.exists(self.path)  # noqa: PTH110 - Path.exists raises for a name that is too long
        return bool(self.info().type.name != "NotFound")

    def open(self) -> Any:
        """Open a file for reading at any place in it."""
        with self._files() as (files, path):
            return files.open_input_file(path)

    def read_bytes(self) -> bytes:
        """Read a file."""
        with self._files() as (files, path), files.open_input_file(path) as file:
            return bytes(file.read())

    def read_text(self) -> str:
        """Read a text file."""
        return self.read_bytes().decode()

    # ----------------------------------------------------------------------------------------------- changing
    def mkdir(self) -> None:
        """Make the folder and those above it, unless they are there."""
        if self.local is not None:
            self.local.mkdir(parents=True, exist_ok=True)
            return
        with self._files() as (files, path):
            files.create_dir(path, recursive=True)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove a file."""
        try:
            with self._files() as (files, path):
                files.delete_file(path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def write_bytes(self, content: Any) -> None:
        """Write a file wholly or not at all; it is there for good when this returns.

        On this machine: under a name that readers ignore, forced to disk, then renamed. Elsewhere: one upload, which
        object stores show under its name only when it is complete.
        """
        if self.local is not None:
            _write(self.local, content)
            return
        with self._files() as (files, path):
            _upload(files, path, content)
            size = files.get_file_info([path])[0].size
            if size != len(content):
                raise OSError(errno.EIO, f"{size} of {len(content)} bytes have arrived", str(self))

    def write_text(self, text: str) -> None:
        """Write a text file wholly or not at all."""
        self.write_bytes(text.encode())

    @contextmanager
    def _files(self) -> Iterator[tuple[Any, str]]:
        """The file system and the path in it. Its failures come as OSError with this place's name."""
        if not self.root:
            from pyarrow.fs import LocalFileSystem

            yield LocalFileSystem(), self.path
            return
        files, base = _opened(self.root)
        try:
            yield files, f"{base.rstrip('/')}/{self.path}".rstrip("/") if base else self.path
        except (FileNotFoundError, InputError):
            raise
        except Exception as failure:  # every file system has exceptions of its own
            number = failure.errno if isinstance(failure, OSError) and failure.errno else errno.EIO
            raise OSError(number, _reason(failure, self.root), str(self)) from None


def place(text: str | os.PathLike[str] | Place) -> Place:
    """The place that a path or a URL names."""
    if isinstance(text, Place):
        return text
    words = os.fspath(text)
    if "://" not in words:
        return Place("", str(Path(words)))
    url = urlsplit(words)
    if url.scheme == "file":
        return Place("", str(Path(unquote(url.path) or "/")))
    query = f"?{url.query}" if url.query else ""
    return Place(f"{url.scheme}://{url.netloc}/{query}", "/".join(word for word in url.path.split("/") if word))


# ------------------------------------------------------------------------------------------------- file systems
def _opened(root: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it that the URL names."""
    return _of_pyarrow(root) or _of_fsspec(root)


@lru_cache(maxsize=8)
def _of_pyarrow(root: str) -> tuple[Any, str] | None:
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    name, seconds = _PATIENCE.get(urlsplit(root).scheme, ("", ""))
    impatient = f"{'&' if '?' in root else '?'}{name}={seconds}" if name and f"{name}=" not in root else ""
    try:
        files, base = FileSystem.from_uri(root + impatient)
    except pa.ArrowNotImplementedError:  # built without it
        return None
    except (OSError, pa.ArrowException) as failure:
        if "Unrecognized filesystem type" in str(failure):
            return None
        raise _unusable(root, failure, _REMEDY) from None
    return files, base


def _of_fsspec(root: str) -> tuple[Any, str]:
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    try:
        from fsspec.core import url_to_fs
    except ImportError:
        remedy = "pip install fsspec, and the package of the file system"
        raise problem(Place(root, ""), "", "is a URL that fsspec opens, which is not installed", None, remedy) from None
    try:
        # Not kept here: fsspec has one instance a thread. What others write must be seen, so it lists anew each time.
        files, base = url_to_fs(root, use_listings_cache=False)
    except ImportError as failure:
        raise _unusable(root, failure, "install it beside fsspec") from None
    except Exception as failure:  # every file system has exceptions of its own
        remedy = "fsspec.available_protocols() names what it knows" if isinstance(failure, ValueError) else _REMEDY
        raise _unusable(root, failure, remedy) from None
    return PyFileSystem(FSSpecHandler(files)), str(base)


def _unusable(root: str, failure: Exception, remedy: str) -> InputError:
    return problem(Place(root, ""), "", f"cannot be opened: {_reason(failure, root)}", None, remedy)


def _reason(failure: Exception, root: str) -> str:
    """What a file system says, on one line and without the URL's keys and passwords."""
    url = urlsplit(root)
    user, _, password = url.netloc.rpartition("@")[0].partition(":")
    secrets = [password, *([user] if len(user) >= _USER and url.scheme not in _CONTAINERS else [])]
    secrets += [value for name, value in parse_qsl(url.query) if name not in _SHOWN]
    text = str(failure).strip().partition("\n")[0] or type(failure).__name__
    for secret in sorted({form for one in secrets for form in (one, unquote(one))}, key=len, reverse=True):
        text = text.replace(secret, "***") if secret else text
    return text[:_REASON]


def _upload(files: Any, path: str, content: Any) -> None:
    from pyarrow.fs import PyFileSystem

    if isinstance(files, PyFileSystem):
        files.handler.fs.pipe_file(path, bytes(content))
        return
    with files.open_output_stream(path) as file:
        file.write(content)


def _write(path: Path, content: Any) -> None:
    temporary = path.with_name(f"_{path.name}-{uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Force a folder's names to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
