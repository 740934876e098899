// The report's style sheet: one column, readable at arm's length, light or dark as the reader's system is, and on paper.
#pragma once

namespace graft::train {

inline constexpr const char* kReportStyle = R"css(
:root { color-scheme: light dark; --page: #fbfbfa; --card: #fff; --ink: #1c1e21; --quiet: #666b73; --rule: #e3e4e6;
  --main: #1f6feb; --muted: #a5abb5; --held: #d4572a; --held2: #8250df; --held3: #1a7f5a; --good: #1a7f37; --bad: #c62f2f; }
@media (prefers-color-scheme: dark) { :root { --page: #14161a; --card: #1b1e23; --ink: #e4e6ea; --quiet: #969ca6; --rule: #2e3239;
  --main: #5c9dff; --muted: #636b78; --held: #ff8a5c; --held2: #b58cff; --held3: #4cc38a; --good: #4cc38a; --bad: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header, main { max-width: 60rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 .8rem; }
h3 { font-size: .8rem; margin: 0 0 .3rem; color: var(--quiet); font-weight: 600; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 1.1rem 1.25rem; margin: 1.1rem 0; }
.quiet, .note { color: var(--quiet); } header .quiet { margin: .3rem 0 0; } .note { font-size: .85rem; margin: .7rem 0 0; }
.lines { white-space: pre-line; }
.headline { display: flex; gap: 1.4rem; align-items: center; flex-wrap: wrap; margin: 1.4rem 0; }
.headline p { margin: 0; } .figure { font-size: 2.9rem; line-height: 1; font-weight: 650; letter-spacing: -.02em; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); } .headline p + p { flex: 1 1 22rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; font-size: .8rem; color: var(--quiet); white-space: nowrap; }
th, td { padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--rule); vertical-align: middle; }
tr:last-child td { border-bottom: 0; } td:last-child, th:last-child { padding-right: 0; }
.scores td:nth-child(n+2), .scores th:nth-child(n+2) { text-align: right; white-space: nowrap; } .scores td:first-child { white-space: nowrap; }
.chart { width: 100%; height: auto; display: block; margin-bottom: .9rem; font-size: 12px; }
.chart text { fill: var(--quiet); } .mid { text-anchor: middle; } .end { text-anchor: end; }
.grid { stroke: var(--rule); } .axis { stroke: var(--muted); } polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.join { stroke: var(--main); stroke-width: 1.8; opacity: .55; } .rule { stroke: var(--held); stroke-dasharray: 4 3; }
.chart text.name { fill: var(--ink); } circle.main { fill: var(--main); } circle.ring { fill: var(--card); stroke: var(--main); stroke-width: 1.8; }
polyline.main { stroke: var(--main); } polyline.faint { stroke: var(--main); stroke-width: 1; opacity: .3; } polyline.muted { stroke: var(--quiet); }
circle { stroke: var(--card); stroke-width: 1.5; } circle.held { fill: var(--held); } circle.held2 { fill: var(--held2); } circle.held3 { fill: var(--held3); }
.legend { margin: 0 0 .2rem; font-size: .85rem; color: var(--quiet); }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .35em 0 1em; vertical-align: -.05em; }
.key.main, .key.faint { background: var(--main); } .key.faint { opacity: .3; } .key.muted { background: var(--quiet); } .key.held { background: var(--held); border-radius: 50%; }
.key.held2 { background: var(--held2); border-radius: 50%; } .key.held3 { background: var(--held3); border-radius: 50%; }
dl { margin: 0; display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .7rem 1.5rem; }
dt { font-size: .8rem; color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
dl + .wide, .note + .wide { margin-top: 1rem; }
code, pre { font: .85em/1.5 ui-monospace, "DejaVu Sans Mono", monospace; } code { overflow-wrap: anywhere; }
.hash { display: inline-block; max-width: 9em; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; vertical-align: bottom; }
.hash:hover { max-width: none; } pre { overflow-x: auto; margin: .8rem 0 0; } summary { cursor: pointer; color: var(--quiet); }
article + article { border-top: 1px solid var(--rule); margin-top: 1rem; padding-top: 1rem; }
.prompt { font-weight: 600; margin: 0 0 .6rem; white-space: pre-wrap; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1.5rem; }
.pair p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
@media print { body { background: #fff; } section { break-inside: avoid; border: 0; padding: 0; } .hash { max-width: none; } }
)css";

}  // namespace graft::train
