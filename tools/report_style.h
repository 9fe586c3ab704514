/* The style of the page of a report: the only one that its Content-Security-Policy lets in, by its hash. */
#ifndef COFFER_TOOLS_REPORT_STYLE_H
#define COFFER_TOOLS_REPORT_STYLE_H

#define REPORT_STYLE \
	"\n:root{color-scheme:light dark;--paper:#fff;--ground:#f4f5f6;--ink:#1c2226;--soft:#515b63;--rule:#d5dade;--link:#0f5a94;" \
	"--c0:#1f6fb2;--c1:#b5541c;--c2:#2e7d4f;--c3:#8a4fa3;--c4:#8a6d00;--c5:#b03060;--c6:#2f7a83;--c7:#6b7480;--alert:#a3271b}\n" \
	"@media(prefers-color-scheme:dark){:root{--paper:#181c20;--ground:#101316;--ink:#e7eaed;--soft:#aab3bb;--rule:#373e45;" \
	"--link:#7cbcf0;--c0:#6fb3ea;--c1:#e89a6a;--c2:#76c893;--c3:#c79be0;--c4:#d9bd4f;--c5:#ec8bb0;--c6:#7fc4cb;--c7:#9aa4ae;" \
	"--alert:#ff9d8f}}\n" \
	"*{box-sizing:border-box}\n" \
	"html{-webkit-text-size-adjust:100%}\n" \
	"body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto," \
	"'Helvetica Neue','Noto Sans','DejaVu Sans',Arial,sans-serif;overflow-wrap:anywhere}\n" \
	".page{max-width:62rem;margin:0 auto;background:var(--paper);padding:2.5rem 2.5rem 3rem}\n" \
	"a{color:var(--link)}\n" \
	".over{display:block;color:var(--soft);font-size:1rem;font-weight:400;letter-spacing:0;margin-bottom:.3rem}\n" \
	"h1{font-size:2rem;line-height:1.2;margin:0 0 .3rem;letter-spacing:-.01em;font-weight:650}\n" \
	".span{margin:0 0 1.2rem;font-size:1.1rem;color:var(--soft)}\n" \
	"h2{font-size:1.25rem;line-height:1.3;margin:2.6rem 0 .4rem;padding-top:1rem;border-top:1px solid var(--rule);" \
	"font-weight:650}\n" \
	"h3{font-size:1rem;margin:1.6rem 0 .3rem;font-weight:650}\n" \
	"p{margin:.4rem 0 .8rem;max-width:44rem}\n" \
	".note{color:var(--soft);font-size:.9rem}\n" \
	".none{color:var(--soft)}\n" \
	".alert{color:var(--alert);font-weight:600}\n" \
	".id,code{font-family:ui-monospace,'SF Mono',Consolas,'DejaVu Sans Mono',monospace;font-size:.86em}\n" \
	".id{color:var(--soft);display:block;font-weight:400}\n" \
	"dl.facts{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem;margin:0 0 1rem;font-size:.95rem}\n" \
	"dl.facts dt{color:var(--soft)}dl.facts dd{margin:0}\n" \
	"ul.tiles{list-style:none;display:grid;grid-template-columns:repeat(auto-fit,minmax(8.6rem,1fr));gap:.7rem;padding:0;" \
	"margin:1rem 0}\n" \
	".tiles li{border:1px solid var(--rule);border-radius:.5rem;padding:.7rem .9rem;font-size:.88rem;color:var(--soft);" \
	"line-height:1.35}\n" \
	".tiles b{display:block;font-size:1.55rem;line-height:1.25;color:var(--ink);font-weight:600;" \
	"font-variant-numeric:tabular-nums}\n" \
	"table{border-collapse:collapse;width:100%;margin:.6rem 0 1rem;font-size:.9rem;line-height:1.4}\n" \
	"caption{text-align:left;color:var(--soft);padding-bottom:.3rem}\n" \
	"th,td{text-align:left;vertical-align:top;padding:.42rem .9rem .42rem 0;border-bottom:1px solid var(--rule)}\n" \
	"th:last-child,td:last-child{padding-right:0}\n" \
	"thead th{color:var(--soft);font-weight:600;border-bottom-color:var(--soft);vertical-align:bottom}\n" \
	"tbody th{font-weight:400}\n" \
	".num{text-align:right;font-variant-numeric:tabular-nums}\n" \
	"td.words,th.name{min-width:7rem}\n" \
	".num,.day{overflow-wrap:normal}\n.day{white-space:nowrap;font-variant-numeric:tabular-nums}\n" \
	"figure{margin:1rem 0 1.4rem}\nfigcaption{color:var(--soft);font-size:.88rem;margin-top:.5rem}\n" \
	".legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;padding:0;margin:0 0 .7rem;font-size:.88rem}\n" \
	".legend li{display:flex;align-items:center;gap:.4rem}\n" \
	"svg.key{width:.8rem;height:.8rem;flex:none}\n" \
	".plot{display:grid;grid-template-columns:auto 1fr;column-gap:.6rem}\n" \
	".yaxis{display:flex;flex-direction:column;justify-content:space-between;text-align:right;color:var(--soft);" \
	"font-size:.78rem;line-height:1;font-variant-numeric:tabular-nums;margin:-.39rem 0}\n" \
	"svg.bars{width:100%;height:12rem;overflow:visible}\n" \
	"svg.xaxis{grid-column:2;width:100%;height:1.3rem;overflow:visible}\n" \
	"svg.xaxis text{font-size:12.5px;fill:var(--soft)}\n" \
	"svg.bars rect{stroke:var(--paper);stroke-width:.6}\n" \
	".grid{stroke:var(--rule);stroke-width:1}\n" \
	".c0{fill:var(--c0)}.c1{fill:var(--c1)}.c2{fill:var(--c2)}.c3{fill:var(--c3)}.c4{fill:var(--c4)}.c5{fill:var(--c5)}" \
	".c6{fill:var(--c6)}.c7{fill:var(--c7)}.track{fill:var(--rule)}\n" \
	".timeline ul{list-style:none;padding:0;margin:0}\n" \
	".timeline li{display:grid;grid-template-columns:minmax(9rem,16rem) 1fr 6.8rem;gap:.2rem .9rem;align-items:center;" \
	"padding:.28rem 0;font-size:.9rem}\n" \
	".timeline svg{width:100%;height:1.1rem}\n" \
	".timeline .date{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\n" \
	"@media(min-width:44.01rem) and (max-width:63rem){.page{padding:2rem 1.4rem}table{font-size:.8rem}" \
	"th,td{padding-right:.45rem}td.words,th.name{min-width:4.5rem}table .id,table code{font-size:.75rem}}\n" \
	"@media(max-width:44rem){.page{padding:1.4rem 1.1rem 2rem}" \
	"h1{font-size:1.5rem}dl.facts{grid-template-columns:1fr;gap:0}dl.facts dd{margin-bottom:.45rem}" \
	".timeline li{grid-template-columns:1fr auto}.timeline svg{grid-row:2;grid-column:1/-1}" \
	"ul.tiles{grid-template-columns:repeat(2,1fr)}" \
	"table,tbody,tr,td,tbody th,caption{display:block}thead{position:absolute;width:1px;height:1px;overflow:hidden;" \
	"clip-path:inset(50%)}" \
	"tr{border:1px solid var(--rule);border-radius:.5rem;padding:.5rem .8rem;margin:.55rem 0}" \
	"td,tbody th{border:0;padding:.12rem 0;display:flex;justify-content:space-between;gap:1rem;text-align:right}" \
	"tbody th{font-weight:600;text-align:left;display:block}" \
	"td::before{content:attr(data-label);color:var(--soft);text-align:left;flex:none;max-width:45%}" \
	"td.words,th.name{min-width:0}td>*{min-width:0}td.empty{display:none}td .id{display:inline}}\n" \
	"@page{margin:16mm 15mm}\n" \
	"@media print{:root{--paper:#fff;--ground:#fff;--ink:#000;--soft:#3d454c;--rule:#c2c8cc;--link:#000;--c0:#1f6fb2;--c1:#b5541c;" \
	"--c2:#2e7d4f;--c3:#8a4fa3;--c4:#8a6d00;--c5:#b03060;--c6:#2f7a83;--c7:#6b7480;--alert:#a3271b}" \
	"html{font-size:10.5pt}body{font-size:1rem}.page{padding:0;max-width:none}a{text-decoration:none}" \
	"h2,h3,caption{break-after:avoid}tr,figure,.tiles li{break-inside:avoid}" \
	"svg{-webkit-print-color-adjust:exact;print-color-adjust:exact}.annex{break-before:page}}\n"

#endif
