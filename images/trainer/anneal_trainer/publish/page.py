"""report.html: how training went, on one page that loads nothing and runs nothing.

It is made of report.json, which lies beside it. Every text is escaped, and a strict content policy stands behind that:
names and URIs come from users.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

from anneal_trainer.publish.chart import Line, chart

_STYLE = """
:root{color-scheme:light dark;--text:#1c2024;--dim:#60646c;--line:#e0e1e6;--back:#fff;--card:#f7f8fa;--first:#3358d4;
--second:#c2410c}
@media(prefers-color-scheme:dark){:root{--text:#edeef0;--dim:#a0a4ab;--line:#33363b;--back:#111214;--card:#191b1e;
--first:#7b9cff;--second:#ff9a5c}}
body{font:16px/1.55 system-ui,sans-serif;color:var(--text);background:var(--back);max-width:52rem;margin:0 auto;
padding:1.5rem 1rem 4rem}
h1{font-size:1.6rem;margin:0 0 .2rem}h2{font-size:1.1rem;margin:2.2rem 0 .6rem}
p,dt,figcaption{color:var(--dim)}code,pre{font-size:.85em;overflow-wrap:anywhere}pre{white-space:pre-wrap;
background:var(--card);padding:1rem;border-radius:.5rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.6rem;margin:1.2rem 0}
.tile{background:var(--card);border-radius:.5rem;padding:.7rem .9rem}.tile b{display:block;font-size:1.35rem}
.tile span{color:var(--dim);font-size:.85rem}
figure{margin:0}svg{width:100%;height:auto;display:block}svg text{fill:var(--dim);font-size:12px}
.grid{stroke:var(--line)}.line{fill:none;stroke-width:2.5;stroke-linejoin:round}.first{stroke:var(--first)}
.second{stroke:var(--second)}
.bar{display:grid;grid-template-columns:8rem 1fr 5rem;gap:.6rem;align-items:center;margin:.3rem 0}
.bar i{background:var(--first);height:.8rem;border-radius:.25rem;display:block;min-width:2px}
.bar span:last-child{text-align:right;font-variant-numeric:tabular-nums}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem;margin:0}dd{margin:0;overflow-wrap:anywhere}
@media(max-width:34rem){dl,.bar{grid-template-columns:1fr;gap:0}dd{margin-bottom:.5rem}
.bar span:last-child{text-align:left}}
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(report: dict[str, Any], rates: list[tuple[float, float]], counts: dict[str, int]) -> str:
    """The whole page as HTML.

    Args:
        report: the content of report.json.
        rates: (step, learning rate) over the run.
        counts: rows by what became of them, as in status.dataset.counts.
    """
    name = escape(report["object"]["name"])
    body = "".join(
        [
            f"<h1>{name}</h1><p>How it was trained. How good it is, an Evaluation on the held-out rows says.</p>",
            _tiles(report),
            _figure("Loss", "mean per answer token", _line(report, "loss", "loss")),
            _figure("Learning rate", "by step", chart([Line("learning rate", rates)], "step", "learning rate")),
            _figure("Throughput", "tokens of rows a second", _line(report, "tokensPerSecond", "tokens/s")),
            _figure("Memory", "at the largest moment so far, GiB", _line(report, "peakMemoryBytes", "GiB", 1024**3)),
            _utilisation(report),
            "<h2>Data</h2>",
            "".join(_bars(counts)),
            "<h2>Where it comes from</h2>",
            _list(
                ("Artifact", report["digest"]),
                ("Base model", f"{report['model']['uri']} {report['model']['digest']}"),
                ("Chat template", report["model"]["chatTemplateHash"]),
                ("Held-out rows", report["heldOutDigest"]),
                ("Made with", ", ".join(f"{k} {v}" for k, v in report["packages"].items())),
            ),
            "<h2>Settings</h2>",
            f"<pre>{escape(json.dumps(report['training'], indent=2, sort_keys=True))}</pre>",
        ]
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}: training</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{_STYLE}</style></head>'
        f"<body>{body}</body></html>\n"
    )


def _tiles(report: dict[str, Any]) -> str:
    trained = report["trained"]
    rate = trained["tokens"] / max(1, trained["seconds"])
    shown = (
        (trained["loss"], "loss at the end"),
        (f"{trained['steps']:,}", "steps"),
        (f"{trained['tokens']:,}", "tokens"),
        (f"{trained['seconds']:,} s", "in steps"),
        (f"{rate:,.0f}", "tokens a second"),
        *([(trained["mfu"], "model FLOP utilisation")] if "mfu" in trained else []),
    )
    tiles = "".join(f'<div class="tile"><b>{escape(value)}</b><span>{what}</span></div>' for value, what in shown)
    return f'<div class="tiles">{tiles}</div>'


def _line(report: dict[str, Any], key: str, unit: str, of: float = 1) -> str:
    """What `history` tells under `key`, in units of `of`."""
    points = [(float(told["step"]), told[key] / of) for told in report["history"] if key in told]
    return chart([Line(key, points)], "step", unit)


def _utilisation(report: dict[str, Any]) -> str:
    """Only where the peak of the accelerator is known."""
    picture = _line(report, "mfu", "MFU")
    return _figure("Model FLOP utilisation", "share of the accelerators' peak", picture) if picture else ""


def _figure(title: str, caption: str, picture: str) -> str:
    shown = picture or "<p>Too few steps for a picture.</p>"
    return f"<h2>{title}</h2><figure>{shown}<figcaption>{caption}</figcaption></figure>"


def _bars(counts: dict[str, int]) -> Iterable[str]:
    most = max(1, *counts.values())
    for name, count in counts.items():
        width = 100 * count / most
        yield (
            f'<div class="bar"><span>{escape(name)}</span><span><i style="width:{width:.1f}%"></i></span>'
            f"<span>{count:,}</span></div>"
        )


def _list(*entries: tuple[str, str]) -> str:
    rows = "".join(f"<dt>{escape(what)}</dt><dd><code>{escape(value)}</code></dd>" for what, value in entries)
    return f"<dl>{rows}</dl>"
