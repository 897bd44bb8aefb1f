"""The verdict on results: the claims in their headers against the files, code and configuration of now."""

from collections.abc import Mapping
from dataclasses import dataclass

from kdq.errors import shown
from kdq.provenance import ledger
from kdq.provenance.file_digests import FileDigests
from kdq.provenance.verify import outside
from kdq.provenance.verify.changes import changed_code, changed_keys
from kdq.provenance.verify.claims import Claim, claim_of
from kdq.provenance.verify.contents import Content
from kdq.study.products import Product, Products

STATES = ("fresh", "stale", "incomplete", "corrupt", "foreign")
SKIPPED = "skipped"  # of another study, so not judged
MOST_REASONS = 3


@dataclass(frozen=True)
class Verdict:
    """The state of a file, one of ``STATES`` or ``SKIPPED``, and the reason."""

    state: str
    reason: str = ""


FRESH = Verdict("fresh")


class Judge:
    """Judge of products: each is judged once, after those that it was made from."""

    def __init__(self, study: Products, contents: Mapping[str, Content], products: Mapping[str, Product]):
        self.code, self.contents, self.products = study.code, contents, products
        self._digests = FileDigests()
        self._verdicts: dict[str, Verdict] = {}
        self._changed_code: dict[tuple, list[str]] = {}
        self._by_digest = {content.sha256: path for path, content in contents.items() if path in products}

    def verdict(self, path: str) -> Verdict:
        """Return the verdict on a file that the workflow makes."""
        if path not in self._verdicts:
            product = self.products[path]
            self._verdicts |= dict.fromkeys(product.outputs, Verdict("stale", "made from itself"))  # until judged
            self._verdicts |= self._judge(product)
        return self._verdicts[path]

    def _judge(self, product: Product) -> dict[str, Verdict]:
        """Return the verdict on each existing file of a product; a defect in one marks all."""
        there = [path for path in product.outputs if path in self.contents]
        defects = self._defects(product, there)
        if defects:
            first, verdict = next(iter(defects.items()))
            rest = Verdict("stale", f"made together with {first}, which is {verdict.state}")
        elif missing := [path for path in product.outputs if path not in self.contents]:
            rest = Verdict("incomplete", f"made together with {missing[0]}, which is missing")
        else:
            rest = self._staleness(product, claim_of(product, self.contents))
        return {path: defects.get(path, rest) for path in there}

    def _defects(self, product: Product, there: list[str]) -> dict[str, Verdict]:
        """Return the files that are not as their job wrote them, with the verdict on each."""
        defects = {}
        for path in there:
            content = self.contents[path]
            named = {key: content.header.get(key) for key in product.identity.get(path, {})}
            if content.wrong:
                defects[path] = Verdict("corrupt", content.wrong)
            elif named != product.identity.get(path, {}):
                cell = ", ".join(f"{key} {shown(value)}" for key, value in named.items())
                defects[path] = Verdict("foreign", f"is of {cell}, which does not belong here")
        if defects or len(there) < len(product.outputs):
            return defects
        try:
            claimed = claim_of(product, self.contents).outputs
        except (KeyError, TypeError, AttributeError):
            return dict.fromkeys(there, Verdict("stale", "does not name what it was made from: of an earlier version"))
        for path, digest in claimed.items():
            if path in there and self.contents[path].known_as != digest:
                defects[path] = Verdict("corrupt", "its content is not the one that it was made with")
        return defects

    def _staleness(self, product: Product, claim: Claim) -> Verdict:
        """Return fresh, or the changes since an intact product was made."""
        reasons = [*self._code(product, claim), *self._keys(product, claim), *self._inputs(product, claim)]
        reasons = reasons or self._inherited(product, claim)
        if not reasons:
            return Verdict("fresh", "; ".join(product.unseen.values())) if product.unseen else FRESH
        more = f"; and {len(reasons) - MOST_REASONS} more" if len(reasons) > MOST_REASONS else ""
        state = "incomplete" if all(reason.endswith("is missing") for reason in reasons) else "stale"
        return Verdict(state, "; ".join(reasons[:MOST_REASONS]) + more)

    def _code(self, product: Product, claim: Claim) -> list[str]:
        key = (claim.code, product.code)
        if key not in self._changed_code:
            note = self.contents.get(str(ledger.FOLDER / f"{claim.code}.json"), Content("", wrong="missing"))
            self._changed_code[key] = changed_code(self.code, product, claim, None if note.wrong else note.header)
        return [f"code {', '.join(files)}"] if (files := self._changed_code[key]) else []

    def _keys(self, product: Product, claim: Claim) -> list[str]:
        return [f"parameter {product.name}.{change}" for change in changed_keys(product, claim)]

    def _inputs(self, product: Product, claim: Claim) -> list[str]:
        """Return what is wrong with the inputs by their digests."""
        reasons = [
            f"{path} was not among its inputs" for role, path in product.inputs.items() if role not in claim.inputs
        ]
        for role, digest in claim.inputs.items():
            path = self._path(product, role, digest)
            name = role if path in ("", role) else f"{role} {path}"
            if role in outside.ROLES:
                continue
            if path not in self.contents:
                reasons.append(f"{name} is missing")
            elif self.contents[path].known_as != digest:
                reasons.append(f"{name} has another digest")
            elif product.inputs and role not in product.inputs and "/seed=" in role:
                reasons.append(f"{name} is no longer among its inputs")
        return reasons + outside.differences(product.keys, claim.inputs, self._digests)

    def _path(self, product: Product, role: str, digest: str) -> str:
        """Return an input's path: that of the workflow, the one that is its role, or any with that digest."""
        return product.inputs.get(role) or (role if role in self.contents else self._by_digest.get(digest, ""))

    def _inherited(self, product: Product, claim: Claim) -> list[str]:
        """Return the inputs that are not fresh themselves."""
        reasons = []
        for role, digest in claim.inputs.items():
            path = self._path(product, role, digest)
            if role not in outside.ROLES and (state := self.verdict(path).state) != "fresh":
                reasons.append(f"{role} is {state}" if path == role else f"{role} {path} is {state}")
        return reasons
