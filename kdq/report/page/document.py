"""The page's one file: data, style and code put into its template, the same bytes for the same sources."""

import base64
import json
import zlib
from dataclasses import asdict

import jinja2
from plotly.offline import get_plotlyjs
from scipy import stats

from kdq.provenance.files import atomic
from kdq.report.page import models
from kdq.report.page.findings import Findings
from kdq.report.page.sources import Sources

MOST_FREEDOM = 99  # beyond it the quantile of the normal distribution is near enough


def content(sources: Sources, commit: str = "") -> dict:
    """Return what the page shows at once, as plain values; ``commit`` is that of the code, "" if it is not known."""
    datasets = {
        name: {
            "classes": part.classes,
            "labels": part.labels.tolist(),
            "findings": [asdict(finding) for finding in Findings(sources, name).all()],
        }
        for name, part in sorted(sources.parts.items())
    }
    contrasts = sources.tables["comparisons"]
    columns = ("dataset", "family", "recipe", "other", "difference", "low", "high", "image_low", "image_high")
    named = contrasts[[*columns, "p_holm", "p_images_holm", "verdict", "test", "seeds"]].astype(object)
    return {
        "study": sources.study,
        "commit": commit,
        "datasets": datasets,
        "kinds": sources.kinds,
        "figures": sources.figures,
        "tables": sorted(sources.tables),
        "rows": models.rows(sources),
        "comparisons": {"columns": list(named), "rows": named.where(named.notna(), None).to_numpy().tolist()},
        # of the t distribution by degrees of freedom, the first is 1
        "quantiles": [round(float(stats.t.ppf(0.975, freedom)), 6) for freedom in range(1, MOST_FREEDOM + 1)],
    }


def html(sources: Sources, parts: dict[str, str], commit: str = "") -> str:
    """Return the page as one HTML text that needs no other file; ``parts`` are the texts of ``assets.NAMES``."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(parts["page.html"]).render(
        study=sources.study,
        style=parts["page.css"],
        code=parts["page.js"],
        content=in_script(content(sources, commit)),
        cells=in_script(models.packed(sources)),
        plotly=base64.b64encode(zlib.compress(get_plotlyjs().encode(), 9)).decode(),
    )


def in_script(value) -> str:
    """Return ``value`` as JSON that can't end the element that holds it, whatever a config or a class is named.

    >>> in_script(["</script>"])
    '["\\\\u003c/script\\\\u003e"]'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def write(path, sources: Sources, parts: dict[str, str], commit: str = "") -> None:
    with atomic(path) as aside:
        aside.write_text(html(sources, parts, commit), encoding="utf-8")
