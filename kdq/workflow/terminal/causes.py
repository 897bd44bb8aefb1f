"""The cause of each job, from Snakemake's reason and, if its code or keys changed, from the header of its result."""

from pathlib import PurePath

from kdq.errors import UserError
from kdq.provenance import ledger
from kdq.provenance.file_digests import FileDigests
from kdq.provenance.verify import outside
from kdq.provenance.verify.changes import changed_code, changed_keys
from kdq.provenance.verify.claims import Claim
from kdq.study.products import Product
from kdq.workflow.lost_records import UNREADABLE, LostRecords
from kdq.workflow.terminal.planned import NEW, Cause

UNKNOWN = "its parameters changed"


class Causes:
    """The causes of the jobs of a run; ``forces`` if the command line makes jobs run that need not."""

    def __init__(self, records: LostRecords, forces: bool):
        self.records, self.forces = records, forces
        self._notes: dict[str, dict | None] = {}
        self._digests = FileDigests()

    def of(self, outputs: list[str], reason) -> tuple[Cause, ...]:
        """Return why the job of these files runs, by Snakemake's ``reason``; () if only since a job before it does."""
        changes = self._all(outputs, reason)
        if changes in ([], [NEW]):  # of a large study nearly all; nothing need be known of them
            return tuple(Cause(PurePath(outputs[0]).stem, change) for change in changes)
        subject, role = self._subject(outputs)
        return tuple(Cause(subject, change, role) for change in changes)

    def _all(self, outputs: list[str], reason) -> list[str]:
        if reason.params_changed:
            return self._code_and_keys(outputs) or [UNKNOWN]
        if reason.forced:
            return ["forced" if self.forces else "left unfinished by a run that was stopped"]
        if reason.software_stack_changed:
            return ["the software environment changed"]
        if reason.missing_output:
            return [NEW]
        if newer := sorted(map(str, reason.updated_input - reason.updated_input_run)):
            return [f"{newer[0]}{f' and {len(newer) - 1:,} more are' if newer[1:] else ' is'} newer"]
        if reason.updated_input_run:  # then Snakemake did not look any further
            return self._code_and_keys(outputs)
        return ["other inputs"] if reason.input_changed else []

    def _code_and_keys(self, outputs: list[str]) -> list[str]:
        """Return every file of code and every key that changed since the files were made."""
        try:
            if (known := self.records.claim(outputs[0])) is None:
                return []
            product, claim = known
            files = changed_code(self.records.code, product, claim, self._note(claim.code))
            keys = [change.replace(": ", " ", 1) for change in changed_keys(product, claim)]
            return [f"{file} changed" for file in files] + keys + self._outside(product, claim)
        except UNREADABLE:
            return []

    def _outside(self, product: Product, claim: Claim) -> list[str]:
        return outside.differences(product.keys, claim.inputs, self._digests)

    def _note(self, code: str) -> dict[str, str] | None:
        if code not in self._notes:
            try:
                self._notes[code] = ledger.read(ledger.FOLDER / f"{code}.json")
            except UserError:
                self._notes[code] = None
        return self._notes[code]

    def _subject(self, outputs: list[str]) -> tuple[str, str]:
        """Return what the cause of a job is said of, and its role: a stage, or the name of its first file."""
        try:
            product = self.records.products.of(outputs[0])
        except UNREADABLE:
            return PurePath(outputs[0]).stem, ""
        stage = self.records.study.grammar.types.get(product.name)
        if not stage:
            name = product.name if product.name == "data" else PurePath(next(iter(product.outputs))).stem
            return name, "figures" if product.name == "plot" else ""
        student_or_teacher = "teacher" if product.name == "teacher" else "student"
        return product.name, student_or_teacher if stage.kind.role == "network" else stage.kind.role
