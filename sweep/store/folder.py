"""The run folder: its parts, the manifest of what is done, and what they rest on.

    <out>/<study>-<hash>/
        study.toml        the study as run
        run.json          what the hash was made of
        catalogue/        the catalogue entries it used
        designs/          the data set: part files, one wide row a design
        manifest.jsonl    one line for every task that is done (manifest/ where files cannot grow)

A part counts once its manifest line is stored too. So a run can be killed at any moment, and the same command
continues it.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

from sweep.errors import InputError, problem
from sweep.store.claims import Claim, FileLock, Lease
from sweep.store.manifest import Line, Manifest, ManifestFile, ManifestSegments, manifest_lines
from sweep.store.parts import part_number, rows_in
from sweep.store.places import Place, place
from sweep.store.reading import ahead

_BEAT_S = 1.0
_PATIENCE_S = 60.0  # that a place may fail without ending the run
FACTS = "run.json"


class RunFolder:
    """A run folder that this process writes: no other may at the same time."""

    def __init__(self, path: str | PathLike[str] | Place) -> None:
        self.path = place(path)
        self.designs = self.path / "designs"
        self.candidates = self.path / "_candidates"  # rows of unfinished cases
        self._claim: Claim | None = None
        self._manifest: Manifest | None = None
        self._guard = threading.Lock()
        self._failure: Exception | None = None
        self._closing = threading.Event()
        self._pulse: threading.Thread | None = None
        self._seen = False

    def open(self, study_text: str, facts: Mapping[str, Any], entries: Mapping[str, str]) -> None:
        """Create the folder, or take it up again where it was left. Raises InputError where it cannot be written."""
        local = self.path.local is not None
        try:
            self.path.exists()  # fails soonest where nothing answers
            for folder in (self.designs, self.candidates):
                folder.mkdir()
            self._claim = FileLock(self.path) if local else Lease(self.path)
            texts = {"study.toml": study_text, FACTS: json.dumps(facts, indent=2, sort_keys=True) + "\n"}
            for name, text in (texts | {f"catalogue/{name}": text for name, text in entries.items()}).items():
                _keep(self.path / name, text)
            for folder in (self.designs, self.candidates):
                for info in folder.infos():
                    if info.base_name.startswith("_"):  # half a part
                        (folder / info.base_name).unlink(missing_ok=True)
            self._manifest = ManifestFile(self.path) if local else ManifestSegments(self.path)
        except OSError as failure:
            self.close()
            reason = failure.strerror or str(failure)
            raise problem(self.path, "", f"cannot be written: {reason}", None, "give --out another folder") from None
        except InputError:
            self.close()
            raise
        if not local:
            self._pulse = threading.Thread(target=self._beat, name="run folder", daemon=True)
            self._pulse.start()

    def close(self) -> None:
        """Store what is still to be stored, and let another process have the folder."""
        self._closing.set()
        if self._pulse is not None:
            self._pulse.join()
        manifest, claim, self._manifest, self._claim, self._pulse = self._manifest, self._claim, None, None, None
        try:
            if manifest is not None:
                manifest.close()
        finally:
            if claim is not None:
                claim.release()

    def _beat(self) -> None:
        """Renew the claim and store waiting lines until the folder is closed; a place may fail for a while."""
        failed_s = 0.0
        while not self._closing.wait(_BEAT_S):
            began = time.monotonic()
            try:
                with self._guard:
                    assert self._claim is not None and self._manifest is not None, "they end later"
                    self._claim.beat()
                    self._manifest.beat()
                failed_s = 0.0
            except (OSError, InputError) as failure:
                failed_s += _BEAT_S + time.monotonic() - began
                if isinstance(failure, InputError) or failed_s > _PATIENCE_S:
                    self._failure = failure  # for the next line
                    return

    def note(self, line: Mapping[str, Any]) -> None:
        """Add a line to the manifest: stored when this returns on this machine, and within moments elsewhere."""
        self.note_all([line])

    def note_all(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines to the manifest, as `note` does one."""
        if self._failure is not None:
            raise self._failure
        with self._guard:
            assert self._manifest is not None, "open the folder first"
            self._manifest.add(lines)

    def lines(self) -> list[Line]:
        """The lines of the manifest."""
        with self._guard:
            if isinstance(self._manifest, ManifestSegments):
                self._manifest.store()
        return list(manifest_lines(self.path))

    def kept(self) -> list[Line]:
        """The lines of cases and steps that are done and whose parts are all there."""
        return kept_lines(self.path, self.lines())

    def sees(self, part: Place) -> bool:
        """Whether a part that a worker wrote is there; of places that are no files of this machine, the first only."""
        if self.path.local is None and self._seen:
            return True
        self._seen = part.exists()
        return self._seen

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """A file of this machine for a file of the folder that other programs write; stored when the block ends."""
        target = self.path / name
        if target.local is not None:
            yield target.local
            return
        with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
            copy = Path(folder, target.name)
            try:
                yield copy
            finally:
                if copy.exists():
                    target.write_bytes(copy.read_bytes())


def _keep(target: Place, text: str) -> None:
    """Write a text, unless it is there already: a place that was left unharmed by a crash is not touched again."""
    with suppress(FileNotFoundError):
        if target.read_bytes() == text.encode():
            return
    if target.local is not None:
        target.parent.mkdir()
    target.write_text(text)


# ------------------------------------------------------------------------------------------------- what is in it
def find_run(run: str | PathLike[str] | Place) -> Place:
    """The folder of a run, given itself or a file in it. Raises InputError where there is none."""
    given = place(run)
    for candidate in (given, given.parent):
        if (candidate / FACTS).exists():
            return candidate
    raise problem(given, "", "not the folder of a run", None, "give a folder such as runs/<study>-<hash>")


def parts_in(folder: Place) -> dict[tuple[int, int], Place]:
    """Parts in a folder by case and first grid point, in the order of their rows."""
    numbers = {part_number(info.base_name): info.base_name for info in folder.infos()}
    return {number: folder / name for number, name in sorted((n, name) for n, name in numbers.items() if n)}


def parts_of(run: Place) -> list[Place]:
    """Parts of the data set in the order of their rows."""
    return list(parts_in(run / "designs").values())


def kept_lines(run: Place, lines: list[Line]) -> list[Line]:
    """Lines of cases and steps whose parts are all there and hold the rows that the line promises."""
    listed = [part for name in ("designs", "_candidates") for part in parts_in(run / name).values()]
    sizes = dict(zip(listed, ahead(rows_in, listed), strict=True))
    of_case: dict[int, int] = {}
    for part, rows in sizes.items():
        if part.parent.name == "designs":
            case = part_number(part.name)
            of_case[case[0] if case else -1] = of_case.get(case[0] if case else -1, 0) + rows

    def holds(line: Line) -> bool:
        if not line.get("rows"):
            return True
        if line["done"] == "case":
            return bool(of_case.get(line["case"]) == line["rows"])
        return any(sizes.get(run / name / line["part"]) == line["rows"] for name in ("designs", "_candidates"))

    return [line for line in lines if line["done"] in ("case", "step") and holds(line)]


def is_finished(run: Place) -> bool:
    """Whether a run is complete, and every part that its manifest promises is there."""
    lines = list(manifest_lines(run))
    if not any(line["done"] == "run" for line in lines):
        return False
    cases = [line for line in lines if line["done"] == "case"]
    return len(kept_lines(run, cases)) == len(cases)


@contextmanager
def kept_catalogue(run: Place) -> Iterator[Path]:
    """The catalogue entries that a run rests on, as a folder of this machine."""
    kept = run / "catalogue"
    if kept.local is not None:
        yield kept.local
        return
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        for kind in kept.infos():
            for info in (kept / kind.base_name).infos():
                if {kind.base_name, info.base_name} & {"", ".", ".."} or not info.base_name.endswith(".toml"):
                    continue
                copy = Path(folder, kind.base_name, info.base_name)
                copy.parent.mkdir(exist_ok=True)
                copy.write_bytes((kept / kind.base_name / info.base_name).read_bytes())
        yield Path(folder)
