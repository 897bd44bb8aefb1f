"""Results whose record Snakemake has lost, judged by their headers.

Snakemake keeps the params that a file was made with in ``.snakemake``. Without a record, since that folder was removed,
Snakemake was killed or the file was copied, it judges a file by its time alone: after an edit there is nothing to be
done. The headers of our files hold code and keys too; a file that was made with others is planned like any other whose
params changed. Headers are read only if there is no record. ``make verify`` also checks seals and inputs.
"""

import contextlib
import json
from functools import cached_property
from pathlib import Path

from kdq.errors import UserError
from kdq.provenance.files import COMMENT
from kdq.provenance.fingerprint import Fingerprints
from kdq.provenance.verify.claims import Claim, claim_of
from kdq.provenance.verify.contents import Content
from kdq.recipe.path import RESULTS, STUDIES
from kdq.study.config import Study
from kdq.study.products import Product, Products
from kdq.workflow.snakemake_fixes.parts import part

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, UserError)


class LostRecords:
    """Stands in for the records that Snakemake lacks; ``report`` returns what was noticed, as lines."""

    def __init__(self, study: Study, code: Fingerprints):
        self.study, self.code = study, code
        self._changes: dict[str, tuple[set, set] | None] = {}  # by the first file of a job

    @cached_property
    def products(self) -> Products:
        return Products(self.study, self.code)

    def use(self, records) -> None:
        """Let ``records``, Snakemake's, answer from headers for files that they lack; no-op if these are unknown."""
        change = part("snakemake.persistence", "ParamsChange")
        has_metadata, params_changed = (getattr(records, name, None) for name in ("has_metadata", "params_changed"))
        if not (change and has_metadata and params_changed):
            return

        def has_metadata_or_header(job) -> bool:
            return has_metadata(job) or self.change(job.output) is not None

        def params_changed_by_header(job, file=None):
            recorded = params_changed(job, file)
            changed = self._changes.get(_first(job.output))  # judged before, if a record was missing
            return recorded | change(*changed, files={file or _first(job.output)}) if changed else recorded

        records.has_metadata, records.params_changed = has_metadata_or_header, params_changed_by_header

    def change(self, files) -> tuple[set, set] | None:
        """Return what the files of a job were made with and would not be now, and the reverse, both as texts.

        None if their header can't be read, or holds no code since the file is a copy of another.
        """
        first = _first(files)
        if first not in self._changes:
            try:
                self._changes[first] = self._change(first)
            except UNREADABLE:
                self._changes[first] = None
        return self._changes[first]

    def claim(self, path: str) -> tuple[Product, Claim] | None:
        """Return the product that ``path`` is of and what its header names, None if it is a copy or has no code.

        Raise one of ``UNREADABLE`` if it can't be read.
        """
        product = self.products.of(path)
        if product.is_copy or not product.code:
            return None
        source = _first(product.outputs)
        contents = {file: Content("") for file in product.outputs} | {source: Content("", header(source))}
        return product, claim_of(product, contents)

    def _change(self, path: str) -> tuple[set, set] | None:
        if (known := self.claim(path)) is None:
            return None
        product, claim = known
        before = _texts(claim.code, claim.keys)
        now = _texts(self.code.of(*product.code), product.keys)
        return before - now, now - before

    def can_judge(self, files: list[str]) -> bool:
        """Return whether the headers of a job's files tell all that their record does but the files' names.

        Not of tables and figures, whose set of inputs no header is compared by, and not of copies.
        """
        if not files or files[0].startswith(f"{RESULTS}/{STUDIES}/"):
            return False
        with contextlib.suppress(*UNREADABLE):
            return self._change(files[0]) is not None
        return False

    def report(self, are_made_again: bool) -> list[str]:
        """Return at most two lines: how many results have no record, and how many were made with other code or keys."""
        judged = {path: changed for path, changed in self._changes.items() if changed is not None}
        if not judged:
            return []
        changed = [path for path, (before, now) in judged.items() if before or now]
        lines = [
            f"{len(judged):,} results have no record in .snakemake (removed, of another folder, or of a job that "
            "failed): the code and keys in their headers decide; make adopt checks them whole and records them\n"
        ]
        if changed:
            fate = "made again" if are_made_again else "left as it is, since params is not among --rerun-triggers"
            lines.append(f"made with other code or keys, and {fate}: {len(changed):,} of them, first {changed[0]}\n")
        return lines


def _first(files) -> str:
    return next(iter(files), "")  # a rule that only collects has none


def header(path: str) -> dict:
    """Return the header of a result as it stands, its seal unchecked; raise OSError or ValueError if there is none."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(path)
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as tensors:
                return json.loads((tensors.metadata() or {})["kdq"])
        except SafetensorError as error:
            raise ValueError(str(error)) from None
    with open(path, encoding="utf-8") as text:
        return json.load(text) if file.suffix == ".json" else json.loads(text.readline().removeprefix(COMMENT))


def _texts(code: str, keys: dict) -> set[str]:
    return {f"code {code}", *(f"{key}={json.dumps(value, sort_keys=True)}" for key, value in keys.items())}
