"use strict";
// The page of a study. Names that come from configs, recipes and data sets are only ever put in as text.
(() => {
  const byId = (id) => document.getElementById(id);
  const content = JSON.parse(byId("content").textContent);
  const packed = new Map(JSON.parse(byId("cells").textContent).map(([dataset, seed, recipe, text]) => [key(dataset, seed, recipe), text]));
  const measures = new Map(content.rows.measures.map((measure) => [measure.name, measure]));
  const unpacked = new Map();
  const state = { dataset: Object.keys(content.datasets)[0], level: "mean", sort: "test_top1", falling: true, picked: [], words: "", network: "", quantizer: "" };
  const inPlace = /^(file|https?):$/.test(location.protocol); // inside another report the links lead nowhere
  let shown = []; // rows of the data set and level; `row.element` is its line of the table
  let drawn = []; // charts that are drawn again when the theme changes

  // ---------------------------------------------------------------- small things

  function key(dataset, seed, recipe) {
    return `${dataset}\n${seed}\n${recipe}`;
  }

  /** Return an element with attributes, listeners (functions) and children: elements, or text. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") element.addEventListener(name, value);
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
    return element;
  }

  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const mean = (values) => sum(values) / values.length;
  const known = (value) => value !== undefined && value !== null;
  const capital = (text) => text[0].toUpperCase() + text.slice(1);
  const many = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
  const minus = (text) => text.replace("-", "−");
  const points = (value) => minus((value > 0 ? "+" : "") + value.toFixed(1));
  const stagesOf = (recipe) => recipe.split("/");
  const nameOf = (stage) => stage.split(",")[0];

  function bytes(value) {
    const units = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]];
    const [size, unit] = units.find(([least]) => value >= least) || [1, "B"];
    return `${(value / size).toPrecision(3).replace(/\.0+$/, "")} ${unit}`;
  }

  function count(value) {
    const units = [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"]];
    const [size, unit] = units.find(([least]) => value >= least) || [1, ""];
    return Number((value / size).toPrecision(3)) + unit;
  }

  const FORMS = {
    share: (value) => `${(100 * value).toFixed(2)}%`,
    bytes,
    count,
    bits: (value) => String(Number(value.toFixed(2))),
    ms: (value) => `${Number(value.toPrecision(3))} ms`,
    number: (value) => String(Number(value.toPrecision(4))),
  };

  const written = (name, value) => (known(value) ? FORMS[measures.get(name).form](value) : "");

  /** Return a difference of a measure with its sign, shares in points. */
  function difference(name, value) {
    const form = measures.get(name).form;
    const text = form === "share" ? `${(100 * Math.abs(value)).toFixed(2)} points` : FORMS[form](Math.abs(value));
    return `${value > 0 ? "+" : value < 0 ? "−" : "±"}${text}`;
  }

  /** Return a recipe as coloured stages. */
  function recipeText(recipe) {
    const parts = stagesOf(recipe).map((stage, place) => {
      const [name, ...keys] = stage.split(",");
      const text = keys.length ? make("span", { class: "keys" }, `,\u200b${keys.join(",\u200b")}`) : "";
      return [place ? make("span", { class: "slash" }, "/\u200b") : "", make("span", { class: `stage ${content.kinds[name] || ""}` }, make("b", {}, name), text)];
    });
    return make("span", { class: "recipe" }, ...parts.flat());
  }

  /** Return a text in which the names of models are set as such. */
  function withRecipes(text) {
    const names = new Set(content.rows.mean.map((row) => row.recipe));
    return text.split(/( |, |\.$|\. |: |; )/).map((word) => (names.has(word) ? make("span", { class: "recipe" }, word) : word));
  }

  function isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen === "auto" ? matchMedia("(prefers-color-scheme: dark)").matches : chosen === "dark";
  }

  const colours = new Map(); // of the present theme

  /** Return the present value of a colour of the style sheet. */
  function colour(name) {
    if (!colours.has(name)) {
      const probe = document.body.appendChild(make("i", { style: `color: var(--${name}); display: none` }));
      colours.set(name, getComputedStyle(probe).color);
      probe.remove();
    }
    return colours.get(name);
  }

  const faint = (rgb) => rgb.replace("rgb(", "rgba(").replace(")", ", 0.38)");

  async function inflate(text) {
    if (!("DecompressionStream" in window)) throw new Error("this browser is too old for the details: it has no DecompressionStream");
    const binary = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([binary]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
  }

  /** Return what is known of one cell. */
  async function detailsOf(dataset, seed, recipe) {
    const id = key(dataset, seed, recipe);
    if (!unpacked.has(id)) unpacked.set(id, packed.has(id) ? JSON.parse(await inflate(packed.get(id))) : null);
    return unpacked.get(id);
  }

  // ---------------------------------------------------------------- charts

  let library = null;

  /** Return plotly, unpacked at the first use, after everything else is on the page. */
  function plotly() {
    library ||= inflate(byId("plotly").textContent).then((code) => {
      byId("plotly").remove();
      document.head.append(make("script", {}, code));
      return window.Plotly;
    });
    return library;
  }

  // plotly reads some tags in texts: none is meant
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function look(layout) {
    const axis = { gridcolor: colour("grid"), linecolor: colour("line"), zeroline: false, ticks: "outside", tickcolor: colour("line"), automargin: true };
    const axes = Object.fromEntries(Object.keys(layout).filter((name) => /^[xy]axis/.test(name)).map((name) => [name, { ...axis, ...layout[name] }]));
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: colour("ink") },
      margin: { l: 58, r: 18, t: 18, b: 48 },
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink"), size: 12.5 }, align: "left" },
      legend: { orientation: "h", y: -0.16, yanchor: "top", x: 0, font: { size: 11.5 } },
      ...layout, ...axes,
    };
  }

  /** Draw a chart in an element, now and after each change of theme; `plan()` returns traces and layout. */
  async function chart(element, plan) {
    element.plan = plan;
    drawn = drawn.filter((each) => each.isConnected && each !== element).concat(element);
    element.classList.add("waiting");
    const Plotly = await plotly();
    if (!element.isConnected || element.plan !== plan) return;
    element.classList.remove("waiting");
    const [traces, layout] = plan();
    await Plotly.react(element, traces, look(layout), { responsive: true, displaylogo: false, displayModeBar: false });
    element.dataset.drawn = "true";
  }

  // ---------------------------------------------------------------- theme

  const THEMES = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };

  function setTheme(name) {
    document.documentElement.dataset.theme = name;
    byId("theme").textContent = THEMES[name];
    colours.clear();
    for (const element of drawn.filter((each) => each.isConnected)) chart(element, element.plan);
  }

  function kept(value) {
    try {
      if (value) localStorage.setItem("kdq-theme", value);
      return localStorage.getItem("kdq-theme");
    } catch {
      return null; // storage is refused to some local files
    }
  }

  // ---------------------------------------------------------------- intervals

  function verdictOf(name) {
    return make("span", { class: `verdict ${name || "none"}` }, name || "no verdict");
  }

  /** Return a scale from points to per cent of a track, alike for all contrasts. */
  function scaleOf(contrasts) {
    const ends = contrasts.flatMap(({ low, high, difference: middle }) => [low, high, middle, 0]);
    const [least, most] = [Math.min(...ends), Math.max(...ends)];
    const room = 0.06 * (most - least || 1);
    return (value) => (100 * (value - least + room)) / (most - least + 2 * room);
  }

  function track(contrast, scale) {
    const tone = contrast.verdict || "none";
    return make("span", { class: `track ${tone}`, "aria-hidden": "true" },
      make("span", { class: "zero", style: `left: ${scale(0)}%` }),
      make("span", { class: "span", style: `left: ${scale(contrast.low)}%; width: ${scale(contrast.high) - scale(contrast.low)}%` }),
      make("span", { class: "point", style: `left: ${scale(contrast.difference)}%` }));
  }

  /** Return a button that shows a contrast, and opens its two models side by side. */
  function contrastLine(contrast, scale) {
    const label = contrast.label || `against ${contrast.other}`;
    const said = `${contrast.recipe} against ${contrast.other}: ${points(contrast.difference)} points, 95% interval ${points(contrast.low)} to ${points(contrast.high)} ${contrast.note}, ${contrast.verdict || "no verdict"}`;
    return make("button", { type: "button", class: "contrast", title: said, "aria-label": `${said}. Compare.`, click: () => compare(contrast.recipe, contrast.other) },
      make("span", { class: "label" }, isRecipe(label) ? make("span", { class: "recipe" }, label.replace(/([/,])/g, "$1\u200b")) : withRecipes(label)),
      track(contrast, scale), make("span", { class: "number" }, points(contrast.difference)), verdictOf(contrast.verdict));
  }

  const isRecipe = (text) => content.rows.mean.some((row) => row.recipe === text);

  // ---------------------------------------------------------------- headline and findings

  function showFindings() {
    const [first, ...others] = content.datasets[state.dataset].findings;
    byId("headline").textContent = first.title;
    byId("lead").replaceChildren(...withRecipes(first.text));
    byId("lead-contrast").replaceChildren(...first.contrasts.map((contrast) => contrastLine(contrast, scaleOf(first.contrasts))));
    byId("cards").replaceChildren(...others.map((finding) =>
      make("article", { class: "card" }, make("h3", {}, finding.title), make("p", {}, ...withRecipes(finding.text)),
        ...finding.contrasts.map((contrast) => contrastLine(contrast, scaleOf(finding.contrasts))))));
    byId("findings").hidden = !others.length;
    byId("scale").replaceChildren(...toScale(first.contrasts[0]));
    const rows = content.rows.seed.filter((row) => row.dataset === state.dataset);
    const facts = [
      ["Data set", state.dataset], ["Recipes", new Set(rows.map((row) => row.recipe)).size], ["Seeds", new Set(rows.flatMap((row) => row.seeds)).size],
      ["Models", rows.length.toLocaleString("en")], ["Test images", content.datasets[state.dataset].labels.length.toLocaleString("en")],
      ["Classes", content.datasets[state.dataset].classes.length],
    ];
    byId("facts").replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value)))));
  }

  /** Return two squares whose areas are those of the headline's files. */
  function toScale(contrast) {
    const [small, large] = [contrast?.recipe, contrast?.other].map((recipe) => content.rows.mean.find((row) => row.dataset === state.dataset && row.recipe === recipe));
    if (!small || !large || small.file_bytes > large.file_bytes) return [];
    const side = 100 * Math.sqrt(small.file_bytes / large.file_bytes);
    const label = (row) => [make("b", {}, bytes(row.file_bytes)), make("span", {}, `${row.quantizer ? `${FORMS.bits(row.bits)} bits` : "float"}, ${written("test_top1", row.test_top1)}`)];
    return [make("div", { class: "square" }, make("div", { class: "inner", style: `width: ${side}%; height: ${side}%` })), make("figcaption", {}, make("div", {}, make("i", { class: "of-small" }), ...label(small)), make("div", {}, make("i", { class: "of-large" }), ...label(large)))];
  }

  function showDatasets() {
    const names = Object.keys(content.datasets);
    byId("datasets").hidden = names.length < 2;
    byId("datasets").replaceChildren(...names.map((name) =>
      make("button", { type: "button", "aria-pressed": String(name === state.dataset), click: () => choose(name) }, name)));
  }

  function choose(dataset) {
    Object.assign(state, { dataset, picked: [], network: "", quantizer: "" });
    showDatasets();
    showFindings();
    showRows();
  }

  // ---------------------------------------------------------------- the table

  const SHORT = { // headings
    bits: "bits", activation_bits: "act. bits", sparsity: "pruned", file_bytes: "file", entropy_bytes: "coded", onnx_bytes: "ONNX", test_top1: "accuracy", validation_top1: "validation",
    test_agreement_root: "as root", mean_relative_layer_error: "layer error", test_cross_entropy: "cross entropy", bit_operations: "bit-ops", test_expected_calibration_error: "calib. error",
  };
  const ORDER = ["test_top1", "validation_top1", "bits", "activation_bits", "sparsity", "file_bytes", "ms0", "ms1", "ms2", "bit_operations", "test_cross_entropy", "test_expected_calibration_error", "test_agreement_root", "mean_relative_layer_error"];
  const columns = ORDER.filter((name) => measures.has(name));
  const heading = (name) => SHORT[name] || measures.get(name).label.replace("milliseconds per image, ", "ms ");
  const ALIASES = { accuracy: ["test_top1", 100], test: ["test_top1", 100], validation: ["validation_top1", 100], bits: ["bits", 1], pruned: ["sparsity", 100], act: ["activation_bits", 1], activations: ["activation_bits", 1], kb: ["file_bytes", 0.001], bytes: ["file_bytes", 1], ms: ["ms0", 1], error: ["mean_relative_layer_error", 1], seed: ["seeds", 1] };

  /** Return the test that a word of the filter makes of a row: a comparison of a number, or a part of its text. */
  function testOf(word) {
    const parts = /^(\w+)(<=|>=|<|>|=)(-?[\d.]+)$/.exec(word);
    const [name, factor] = (parts && ALIASES[parts[1].toLowerCase()]) || [];
    if (!name) return (row) => row.text.includes(word.toLowerCase());
    const limit = Number(parts[3]);
    const holds = { "<=": (value) => value <= limit, ">=": (value) => value >= limit, "<": (value) => value < limit, ">": (value) => value > limit, "=": (value) => Math.abs(value - limit) < 1e-9 }[parts[2]];
    return (row) => known(row[name]) && holds((Array.isArray(row[name]) ? row[name][0] : row[name]) * factor);
  }

  function passes() {
    const tests = state.words.split(/\s+/).filter(Boolean).map(testOf);
    if (state.network) tests.push((row) => row.network === state.network);
    if (state.quantizer) tests.push((row) => (row.quantizer || "none") === state.quantizer);
    return (row) => tests.every((test) => test(row));
  }

  function showHead() {
    const cells = [["", "compare"], ["recipe", "recipe"], ...(state.level === "seed" ? [["seeds", "seed"]] : []), ...columns.map((name) => [name, heading(name)])];
    byId("table").tHead.replaceChildren(make("tr", {}, ...cells.map(([name, text]) => {
      if (!name) return make("th", { class: "first", scope: "col", title: "pick two models to compare" }, "");
      const sorted = state.sort === name;
      const button = make("button", { type: "button", "data-sort": name, title: measures.get(name)?.label, click: () => sortBy(name) }, text, make("span", { class: "arrow", "aria-hidden": "true" }, sorted ? (state.falling ? " ↓" : " ↑") : ""));
      return make("th", { scope: "col", class: name === "recipe" ? "left" : null, "aria-sort": sorted ? (state.falling ? "descending" : "ascending") : "none" }, button);
    })));
  }

  function sortBy(name) {
    const better = measures.get(name)?.better;
    state.falling = state.sort === name ? !state.falling : better === "more";
    state.sort = name;
    showHead();
    order();
    byId("table").tHead.querySelector(`[data-sort="${CSS.escape(name)}"]`)?.focus();
  }

  function order() {
    const sign = state.falling ? -1 : 1;
    const value = (row) => (state.sort === "seeds" ? row.seeds[0] : row[state.sort]);
    const compareRows = (one, two) => {
      const [left, right] = [value(one), value(two)];
      if (!known(left) || !known(right)) return known(right) - known(left); // rows without a value are last
      return sign * (typeof left === "string" ? left.localeCompare(right, "en", { numeric: true }) : left - right);
    };
    shown.sort((one, two) => compareRows(one, two) || one.place - two.place);
    byId("table").tBodies[0].append(...shown.map((row) => row.element));
    rove();
  }

  /** Let Tab reach one row of the table, the first that is shown unless another has been reached; arrows lead on. */
  function rove(row) {
    const present = row || shown.find((each) => each.element.tabIndex === 0 && !each.element.hidden) || shown.find((each) => !each.element.hidden);
    for (const each of shown) if (each.element.tabIndex === 0) each.element.tabIndex = -1;
    if (present) present.element.tabIndex = 0;
  }

  function line(row, [least, most]) {
    const cell = (name) => {
      const deviation = row[`${name}_std`];
      const share = name === "test_top1" && most > least ? make("span", { class: "gauge", "aria-hidden": "true" }, make("i", { style: `width: ${(100 * (row[name] - least)) / (most - least)}%` })) : "";
      const spread = known(deviation) && measures.get(name).form === "share" ? make("span", { class: "sd" }, ` ±${(100 * deviation).toFixed(1)}`) : "";
      return make("td", {}, share, written(name, row[name]), spread);
    };
    const box = make("input", { type: "checkbox", tabindex: "-1", "aria-label": `pick ${row.recipe} to compare`, change: () => pick(row) });
    const element = make("tr", { tabindex: "-1", "aria-label": labelOf(row) },
      make("td", { class: "first", click: (event) => event.stopPropagation() }, box),
      make("td", { class: "left" }, recipeText(row.recipe)), state.level === "seed" ? make("td", {}, String(row.seeds[0])) : null, ...columns.map(cell));
    return Object.assign(row, { element, box });
  }

  const labelOf = (row) => `${row.recipe}${state.level === "seed" ? `, seed ${row.seeds[0]}` : ""}, accuracy ${written("test_top1", row.test_top1)}, ${written("file_bytes", row.file_bytes)}`;

  function showRows() {
    const rows = content.rows[state.level].filter((row) => row.dataset === state.dataset);
    const values = rows.map((row) => row.test_top1);
    const range = [Math.min(...values), Math.max(...values)];
    shown = rows.map((row, place) => line(Object.assign(Object.create(row), { place, text: [row.recipe, row.quantizer, row.kind, row.method_name].join(" ").toLowerCase() }), range));
    state.picked = [];
    for (const select of document.querySelectorAll("select.level")) select.value = state.level;
    fillChoice("network", "all networks", rows.map((row) => row.network));
    fillChoice("quantizer", "all, float too", rows.map((row) => row.quantizer || "none"));
    showHead();
    byId("table").tBodies[0].replaceChildren();
    order();
    filter();
    showTray();
  }

  function fillChoice(id, all, values) {
    const names = [...new Set(values)].sort((one, two) => one.localeCompare(two, "en", { numeric: true }));
    byId(id).replaceChildren(make("option", { value: "" }, all), ...names.map((name) => make("option", { value: name }, name === "none" ? "float models" : name)));
    byId(id).value = state[id];
  }

  function filter() {
    const test = passes();
    let matching = 0;
    for (const row of shown) {
      row.element.hidden = !test(row);
      matching += !row.element.hidden;
    }
    byId("count").textContent = matching === shown.length ? many(shown.length, "model") : `${matching.toLocaleString("en")} of ${many(shown.length, "model")}`;
    rove();
    draw();
  }

  function onTableKey(event) {
    const row = shown.find((each) => each.element === event.target);
    if (!row) return;
    const visible = shown.filter((each) => !each.element.hidden);
    const place = visible.indexOf(row);
    const next = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: visible.length - 1, PageDown: Math.min(place + 10, visible.length - 1), PageUp: Math.max(place - 10, 0) }[event.key];
    if (next !== undefined) {
      event.preventDefault();
      if (visible[next]) rove(visible[next]), visible[next].element.focus();
    } else if (event.key === "Enter") {
      open(row.recipe, row.seeds, row.element);
    } else if (event.key === " " || event.key === "c") {
      event.preventDefault();
      pick(row);
    }
  }

  // ---------------------------------------------------------------- the trade-off

  /** Return the places of the points that no other dominates; costs and values as in kdq/report/pareto.py. */
  function front(pairs) {
    const places = pairs.map((_, place) => place).sort((one, two) => pairs[one][0] - pairs[two][0] || pairs[two][1] - pairs[one][1] || one - two);
    const kept = [];
    let best = -Infinity;
    for (const place of places) {
      if (pairs[place][1] > best) {
        best = pairs[place][1];
        kept.push(place);
      }
    }
    return kept;
  }

  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "star", "pentagon", "hexagram", "triangle-down"];

  function traces(rows, x, y) {
    const methods = [...new Set(shown.map((row) => row.method_name))].sort();
    const quantizers = [...new Set(shown.map((row) => row.quantizer || "float"))].sort((one, two) => (two === "float") - (one === "float") || (one < two ? -1 : 1));
    const symbol = (name) => SYMBOLS[quantizers.indexOf(name) % SYMBOLS.length];
    const scale = (name) => (measures.get(name).form === "share" ? 100 : 1);
    const hover = (row) => `<b>${plain(row.recipe)}</b>${state.level === "seed" ? `, seed ${row.seeds[0]}` : ""}<br>${[y, x, ...["test_top1", "bits", "file_bytes"].filter((name) => ![x, y].includes(name))]
      .filter((name) => known(row[name])).map((name) => `${plain(measures.get(name).label)}: ${written(name, row[name])}${known(row[`${name}_std`]) && measures.get(name).form === "share" ? ` ± ${(100 * row[`${name}_std`]).toFixed(2)}` : ""}`).join("<br>")}`;
    const groups = methods.map((method, place) => {
      const group = rows.filter((row) => row.method_name === method).sort((one, two) => Boolean(one.quantizer) - Boolean(two.quantizer)); // the legend has the mark of the first
      const spread = group.map((row) => scale(y) * (row[`${y}_std`] || 0));
      return {
        type: "scatter", mode: "markers", name: plain(method), legendgroup: "methods", legendgrouptitle: { text: "Network by" },
        x: group.map((row) => scale(x) * row[x]), y: group.map((row) => scale(y) * row[y]), rows: group, text: group.map(hover), hovertemplate: "%{text}<extra></extra>",
        error_y: { type: "data", array: spread, visible: spread.some(Boolean) && group.length < 150, color: faint(colour(`colour${place % 8}`)), thickness: 1, width: 0 },
        marker: { color: colour(`colour${place % 8}`), size: group.map((row) => (row.quantizer ? 10 : 13) - (rows.length > 300 ? 3 : 0)), opacity: rows.length > 300 ? 0.7 : 0.92, symbol: group.map((row) => symbol(row.quantizer || "float")), line: { color: colour("card"), width: 1.2 } },
      };
    }).filter((trace) => trace.x.length);
    const present = new Set(rows.map((row) => row.quantizer || "float"));
    const shapes = quantizers.filter((name) => present.has(name)).map((name) => ({
      type: "scatter", mode: "markers", name: plain(name), x: [null], y: [null], legendgroup: "quantizers", legendgrouptitle: { text: "Weights" }, hoverinfo: "skip",
      marker: { color: colour("soft"), size: 9, symbol: symbol(name) },
    }));
    return [...groups, ...shapes];
  }

  function frontTrace(rows, x, y) {
    const chosen = measures.get(y).chosen_by;
    const sign = measures.get(y).better === "less" ? -1 : 1;
    const able = rows.filter((row) => known(row[chosen]));
    const scale = (name) => (measures.get(name).form === "share" ? 100 : 1);
    const best = front(able.map((row) => [row[x], sign * row[chosen]])).map((place) => able[place]);
    return {
      type: "scatter", mode: "lines", name: "Pareto front, chosen on validation", x: best.map((row) => scale(x) * row[x]), y: best.map((row) => scale(y) * row[y]), front: best.map((row) => row.recipe),
      line: { color: colour("ink"), width: 1.4, dash: "dot", shape: "hv" }, hoverinfo: "skip", legendgroup: "front",
    };
  }

  /** Return plain ticks of a logarithmic axis: its labels would be powers of ten, or lone digits between them. */
  function logTicks(values, form) {
    const positive = values.filter((value) => value > 0);
    const [least, most] = [Math.min(...positive), Math.max(...positive)];
    const steps = most / least > 200 ? [1] : most / least > 20 ? [1, 3] : [1, 1.5, 2, 3, 4, 5, 7];
    const ticks = [];
    for (let decade = Math.floor(Math.log10(least)); decade <= Math.log10(most); decade++) for (const step of steps) ticks.push(step * 10 ** decade);
    const inside = ticks.filter((tick) => tick >= 0.8 * least && tick <= 1.25 * most);
    return { tickvals: inside, ticktext: inside.map(form) };
  }

  function axisOf(name, values, logarithmic) {
    const measure = measures.get(name);
    const axis = { title: { text: `${capital(plain(measure.label))}${measure.form === "share" ? " (%)" : ""}`, standoff: 8 } };
    if (logarithmic) Object.assign(axis, { type: "log", dtick: undefined, minor: { showgrid: false } });
    if (measure.form === "bits") {
      const ticks = [...new Set(values.map(Math.round))].sort((one, two) => one - two);
      if (ticks.length < 12) Object.assign(axis, { tickvals: ticks, ticktext: ticks.map(String) });
    } else if (logarithmic) {
      Object.assign(axis, logTicks(values, measure.form === "share" ? FORMS.number : FORMS[measure.form]));
    } else if (measure.form === "bytes" || measure.form === "count") {
      axis.tickformat = "~s";
    }
    return axis;
  }

  function draw() {
    const [x, y] = [byId("x").value, byId("y").value];
    const rows = shown.filter((row) => !row.element.hidden && known(row[x]) && known(row[y]));
    const logarithmic = byId("log").checked && rows.every((row) => row[x] > 0);
    const chosen = measures.get(y).chosen_by;
    byId("front").disabled = !chosen;
    const withFront = chosen && byId("front").checked && rows.length > 1;
    byId("chart-note").textContent = [
      `${many(rows.length, "model")}${rows.length < shown.length ? ` of ${shown.length.toLocaleString("en")}, as filtered below or without this measure` : ""}.`,
      withFront ? "The front is chosen on the validation part and shown on the test part, where it may fall." : "", !chosen ? `No front: ${measures.get(y).label} has nothing on the validation part to choose by.` : "",
      logarithmic ? "The horizontal axis is logarithmic." : "", rows.some((row) => known(row[`${y}_std`])) ? "Bars are the standard deviation over seeds." : "",
      "Click a point, or press Enter in a row of the table, for all of a model.",
    ].filter(Boolean).join(" ");
    byId("chart").setAttribute("aria-label", `${measures.get(y).label} against ${measures.get(x).label} of ${many(rows.length, "model")}; the table below has the same models`);
    const factor = (name) => (measures.get(name).form === "share" ? 100 : 1);
    chart(byId("chart"), () => [
      [...(withFront ? [frontTrace(rows, x, y)] : []), ...traces(rows, x, y)],
      {
        xaxis: axisOf(x, rows.map((row) => factor(x) * row[x]), logarithmic), yaxis: axisOf(y, rows.map((row) => factor(y) * row[y]), false), margin: { l: 62, r: 18, t: 22, b: 52 },
        legend: innerWidth > 736 ? { x: 1.01, y: 1, yanchor: "top", font: { size: 12 }, tracegroupgap: 12 } : { orientation: "h", y: -0.2, yanchor: "top", font: { size: 11 } },
      },
    ]).then(() => {
      const element = byId("chart");
      if (element.listens || !element.on) return;
      element.listens = true;
      element.on("plotly_click", ({ points: [point] }) => {
        const row = point.data.rows?.[point.pointNumber];
        if (row) open(row.recipe, row.seeds);
      });
      element.on("plotly_hover", () => (element.style.cursor = "pointer"));
    });
  }

  function fillAxes() {
    const option = (measure) => make("option", { value: measure.name }, capital(measure.label));
    const all = [...measures.values()];
    const merits = (one) => /^(test_|validation_|mean_)/.test(one.name);
    byId("x").append(...all.filter((one) => !merits(one)).map(option), ...all.filter(merits).map(option));
    byId("y").append(...all.filter(merits).map(option), ...all.filter((one) => !merits(one)).map(option));
    byId("x").value = "file_bytes";
    byId("y").value = "test_top1";
    axisChosen();
  }

  function axisChosen() {
    const { form } = measures.get(byId("x").value);
    byId("log").checked = form !== "share" && form !== "number";
  }

  // ---------------------------------------------------------------- one model

  /** Return the cells of a recipe under seeds, with their details. */
  async function cellsOf(recipe, seeds) {
    const cells = await Promise.all(seeds.map(async (seed) => ({ seed, details: await detailsOf(state.dataset, seed, recipe) })));
    return cells.filter((cell) => cell.details);
  }

  const rowOf = (recipe, seeds) =>
    content.rows[seeds.length > 1 ? "mean" : "seed"].find((row) => row.dataset === state.dataset && row.recipe === recipe && (seeds.length > 1 || row.seeds[0] === seeds[0])) ||
    content.rows.mean.find((row) => row.dataset === state.dataset && row.recipe === recipe);
  const seedsOf = (recipe) => content.rows.mean.find((row) => row.dataset === state.dataset && row.recipe === recipe)?.seeds || [];

  let opener = null;

  function sheet(title, wide, ...body) {
    const dialog = byId("sheet");
    opener = dialog.open ? opener : document.activeElement;
    dialog.className = wide ? "wide" : "";
    dialog.replaceChildren(make("div", { class: "sheet-head" }, title, make("button", { type: "button", class: "quiet", autofocus: true, "aria-label": "Close", click: () => dialog.close() }, "Close")), make("div", { class: "sheet-body" }, ...body));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    dialog.querySelector("[autofocus]").focus();
  }

  const titled = (name, ...children) => make("section", {}, make("h3", {}, name), ...children);
  const address = (recipe, seeds) => `#model=${[state.dataset, seeds.join("+"), recipe].map(encodeURIComponent).join("&")}`;

  function remember(hash) {
    try {
      history.replaceState(null, "", hash || location.pathname + location.search);
    } catch {
      // a page inside another one has no address of its own
    }
  }

  /** Open a model: of several seeds, or of one. */
  async function open(recipe, seeds) {
    const row = rowOf(recipe, seeds);
    if (!row) return;
    const cells = await cellsOf(recipe, seeds);
    const of = seeds.length > 1 ? `${state.dataset}, ${seeds.length} seeds` : `${state.dataset}, seed ${seeds[0]}`;
    const title = make("h2", { id: "sheet-title" }, make("small", {}, of), recipeText(recipe));
    const training = await trainingOf(recipe, seeds, cells);
    const layers = cells[0]?.details.layers || [];
    sheet(title, false,
      titled("Stages", path(recipe, seeds)), tiles(row), seeds.length > 1 ? titled("Seeds", seedTable(recipe, seeds)) : comeFrom(recipe, seeds),
      training ? titled(training.title, make("div", { class: "plot", id: "training" })) : "",
      layers.some(([, , error]) => known(error)) ? titled("Error of each layer's output", make("div", { class: "plot", id: "layers" }), make("p", { class: "note" }, LAYERS_NOTE)) : "",
      titled("Confusion of the test images", confusion(cells)),
      make("div", { class: "two" }, titled("Keys of the last stage", table(cells[0].details.keys)), titled("Made by", table(madeBy(cells[0].details)))),
      titled("Files", files(recipe, cells)));
    byId("sheet").querySelector(".sheet-head h2").after(pickButton(recipe, seeds));
    if (training) chart(byId("training"), () => trainingPlan([training]));
    if (byId("layers")) {
      byId("layers").style.height = `${Math.max(15, 4.6 + 1.05 * layers.length)}rem`;
      chart(byId("layers"), () => layersPlan([{ name: recipe, cells }]));
    }
    remember(address(recipe, seeds));
  }

  function pickButton(recipe, seeds) {
    const row = shown.find((each) => each.recipe === recipe && each.seeds.join() === seeds.join());
    if (!row) return "";
    const text = () => (state.picked.includes(row) ? "Picked" : "Compare with …");
    const button = make("button", { type: "button", click: () => { pick(row); button.textContent = text(); if (state.picked.length === 2) compareRows(); } }, text());
    return button;
  }

  function comeFrom(recipe, seeds) {
    const all = seedsOf(recipe);
    return all.length > 1 ? make("p", { class: "note" }, make("button", { type: "button", click: () => open(recipe, all) }, `All ${all.length} seeds together`)) : "";
  }

  function path(recipe, seeds) {
    const parts = stagesOf(recipe);
    return make("ol", { class: "path" }, ...parts.map((stage, place) => {
      const upTo = parts.slice(0, place + 1).join("/");
      const [name, ...keys] = stage.split(",");
      const exists = seedsOf(upTo).length;
      const row = exists && rowOf(upTo, seeds);
      const facts = row ? `${content.kinds[name] || ""} · ${written("test_top1", row.test_top1)} · ${written("file_bytes", row.file_bytes)}` : content.kinds[name] || "";
      return make("li", { class: content.kinds[name] }, make("button", { type: "button", disabled: !exists, "aria-current": upTo === recipe ? "step" : null, click: () => open(upTo, seeds.length > 1 ? seedsOf(upTo) : seeds) },
        make("b", {}, name), keys.length ? make("span", { class: "recipe" }, ` ${keys.join(" ")}`) : "", make("small", {}, facts)));
    }));
  }

  function tiles(row) {
    const names = ["test_top1", "validation_top1", "bits", "file_bytes", "ms0", "ms1", "ms2", "activation_bits", "sparsity", "test_agreement_root", "test_expected_calibration_error", "mean_relative_layer_error", "bit_operations"];
    return make("section", { class: "tiles", "aria-label": "Measures" }, ...names.filter((name) => measures.has(name) && known(row[name])).map((name) => {
      const deviation = row[`${name}_std`];
      const spread = known(deviation) && measures.get(name).form === "share" ? make("small", {}, ` ± ${(100 * deviation).toFixed(2)}`) : "";
      return make("div", { class: "tile" }, make("span", {}, capital(measures.get(name).label)), make("b", {}, written(name, row[name])), spread);
    }));
  }

  function seedTable(recipe, seeds) {
    const names = ["test_top1", "validation_top1", "file_bytes"];
    return make("table", { class: "plain numbers" }, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "seed"), ...names.map((name) => make("th", { scope: "col" }, measures.get(name).label)))),
      make("tbody", {}, ...seeds.map((seed) => {
        const row = rowOf(recipe, [seed]);
        return make("tr", {}, make("th", { scope: "row" }, make("button", { type: "button", click: () => open(recipe, [seed]) }, `seed ${seed}`)), ...names.map((name) => make("td", {}, written(name, row[name]))));
      })));
  }

  /** Return the training of a model, or of the nearest one that it descends from which was trained. */
  async function trainingOf(recipe, seeds, cells) {
    const parts = stagesOf(recipe);
    for (let length = parts.length; length; length--) {
      const name = parts.slice(0, length).join("/");
      const of = length === parts.length ? cells : await cellsOf(name, seeds);
      const runs = of.filter((cell) => cell.details.history);
      if (runs.length) return { name, title: name === recipe ? "Training" : `Training of ${name}, from which it comes`, runs };
    }
    return null;
  }

  function trainingPlan(trainings) {
    const lines = trainings.flatMap(({ name, runs }, place) => runs.flatMap(({ seed, details: { history: [epochs, losses, accuracies] } }, run) => {
      const tone = colour(trainings.length > 1 ? `colour${place}` : "colour0");
      const label = `${plain(name)}, seed ${seed}`;
      const shared = { type: "scatter", mode: "lines", x: epochs, legendgroup: name, showlegend: trainings.length > 1 && !run, name: plain(name), opacity: runs.length > 1 ? 0.65 : 1 };
      return [
        { ...shared, y: accuracies.map((value) => value * 100), line: { color: tone, width: 1.7 }, hovertemplate: `${label}<br>epoch %{x}: %{y:.2f}%<extra></extra>` },
        { ...shared, y: losses, yaxis: "y2", showlegend: false, line: { color: trainings.length > 1 ? tone : colour("colour1"), width: 1.1, dash: "dot" }, hovertemplate: `${label}<br>epoch %{x}: loss %{y:.4g}<extra></extra>` },
      ];
    }));
    return [lines, {
      xaxis: { title: { text: "Epoch", standoff: 6 } }, yaxis: { title: { text: "Validation accuracy (%)" } }, yaxis2: { title: { text: "Training loss (dotted)" }, overlaying: "y", side: "right", type: "log", showgrid: false, ...logTicks(lines.filter(({ yaxis }) => yaxis).flatMap(({ y }) => y), FORMS.number) },
      margin: { l: 58, r: 58, t: 14, b: 44 }, showlegend: trainings.length > 1, legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
    }];
  }

  const LAYERS_NOTE = "The norm of a layer's output error on the calibration images over the norm of its output in the float network; small dots are seeds.";

  function layersPlan(models) {
    const names = [...new Set(models.flatMap(({ cells }) => cells[0].details.layers.map(([name]) => plain(name))))];
    const lines = models.flatMap(({ name, cells }, place) => {
      const tone = colour(models.length > 1 ? `colour${place}` : "colour0");
      const each = cells.map(({ details }) => new Map(details.layers.map(([layer, bits, error]) => [plain(layer), [bits, error]])));
      const of = (layer) => each.map((layers) => layers.get(layer)?.[1]).filter(known);
      const dots = each.flatMap((layers) => names.filter((layer) => known(layers.get(layer)?.[1])).map((layer) => [layers.get(layer)[1], layer]));
      const present = names.filter((layer) => of(layer).length);
      const spread = { type: "scatter", mode: "markers", x: dots.map(([error]) => error), y: dots.map(([, layer]) => layer), marker: { color: tone, size: 5, opacity: 0.35 }, hoverinfo: "skip", showlegend: false };
      const middle = {
        type: "scatter", mode: "lines+markers", name: plain(name), x: present.map((layer) => mean(of(layer))), y: present, line: { color: tone, width: 1 }, marker: { color: tone, size: 8 },
        text: present.map((layer) => `${layer}<br>${FORMS.number(mean(of(layer)))} of its output's norm${known(each[0].get(layer)?.[0]) ? `, ${each[0].get(layer)[0]} bits` : ""}`), hovertemplate: "%{text}<extra></extra>",
      };
      return cells.length > 1 ? [spread, middle] : [middle];
    });
    const values = lines.flatMap((trace) => trace.x);
    const wide = Math.max(...values) / Math.min(...values) > 8;
    return [lines, {
      xaxis: { title: { text: `Relative error${wide ? ", logarithmic" : ""}`, standoff: 6 }, type: wide ? "log" : "linear", ...(wide ? logTicks(values, FORMS.number) : { rangemode: "tozero" }) },
      yaxis: { categoryorder: "array", categoryarray: names, range: [names.length - 0.3, -0.7], dtick: 1, tickfont: { size: 10.5 } },
      margin: { l: 120, r: 18, t: 10, b: 44 }, showlegend: models.length > 1, legend: { orientation: "h", y: 1, yanchor: "bottom" },
    }];
  }

  /** Return the class that a cell predicts for each test image. */
  function predictedBy(details) {
    const predicted = content.datasets[state.dataset].labels.slice();
    let place = -1;
    details.wrong[0].forEach((gap, index) => (predicted[(place += gap)] = details.wrong[1][index]));
    return predicted;
  }

  const MOST_NUMBERS = 20; // classes, of a matrix that is written out

  function confusion(cells) {
    const { labels, classes } = content.datasets[state.dataset];
    const counts = classes.map(() => new Float64Array(classes.length));
    for (const { details } of cells) predictedBy(details).forEach((guess, image) => counts[labels[image]][guess]++);
    const shares = counts.map((row) => row.map((value) => value / (sum([...row]) || 1)));
    const worst = classes.flatMap((_, from) => classes.map((_, to) => [counts[from][to], from, to])).filter(([value, from, to]) => value && from !== to).sort((one, two) => two[0] - one[0]).slice(0, 3);
    const mostly = worst.length ? `Most often ${worst.map(([value, from, to]) => `${classes[from]} is taken for ${classes[to]} (${(value / cells.length).toFixed(cells.length > 1 ? 1 : 0)} of ${labels.filter((label) => label === from).length})`).join(", ")}.` : "Every image is classified correctly.";
    const note = make("p", { class: "note" }, `Rows are labels, columns predictions, counts${cells.length > 1 ? ` of ${cells.length} seeds together` : ""}. ${mostly}`);
    return make("div", { class: "confusion" }, classes.length <= MOST_NUMBERS ? matrixTable(classes, counts, shares) : matrixImage(classes, counts, shares), note);
  }

  const tint = (share, right) => `background: color-mix(in srgb, var(--${right ? "accent" : "bad"}) ${Math.round(right ? 78 * share : 88 * Math.sqrt(share))}%, transparent)`;

  function matrixTable(classes, counts, shares) {
    const head = make("tr", {}, make("td", {}), ...classes.map((name) => make("th", { scope: "col", title: name }, name)));
    return make("table", {}, make("thead", {}, head), make("tbody", {}, ...classes.map((name, from) =>
      make("tr", {}, make("th", { scope: "row", title: name }, name), ...classes.map((guess, to) =>
        make("td", { style: counts[from][to] ? tint(shares[from][to], from === to) + (from === to && shares[from][to] > 0.55 ? "; color: var(--paper)" : "") : null, title: `${name} taken for ${guess}: ${(100 * shares[from][to]).toFixed(1)}%` }, counts[from][to] ? String(counts[from][to]) : ""))))));
  }

  function matrixImage(classes, counts, shares) {
    const size = classes.length;
    const canvas = make("canvas", { width: size, height: size, role: "img", "aria-label": `confusion matrix of ${size} classes` });
    const context = canvas.getContext("2d");
    const [right, wrong] = [colour("accent"), colour("bad")];
    shares.forEach((row, from) => row.forEach((share, to) => {
      context.globalAlpha = from === to ? share : Math.min(1, 1.2 * Math.sqrt(share));
      context.fillStyle = from === to ? right : wrong;
      context.fillRect(to, from, 1, 1);
    }));
    canvas.addEventListener("mousemove", (event) => {
      const [to, from] = [Math.floor((event.offsetX / canvas.clientWidth) * size), Math.floor((event.offsetY / canvas.clientHeight) * size)];
      if (counts[from]?.[to] !== undefined) canvas.title = `${classes[from]} taken for ${classes[to]}: ${counts[from][to]}`;
    });
    return canvas;
  }

  function table(values) {
    const text = (value) => (typeof value === "object" && value !== null ? JSON.stringify(value) : value === "" ? "–" : String(value));
    return make("table", { class: "plain" }, make("tbody", {}, ...Object.entries(values).filter(([, value]) => known(value)).map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, make("code", {}, text(value)))))));
  }

  function madeBy({ provenance, evaluation }) {
    const { inputs = {}, ...rest } = provenance;
    const short = (digest) => String(digest).slice(0, 16);
    const of = { "code, fingerprint": rest.code, processor: rest.device, Python: rest.python, PyTorch: rest.torch, threads: rest.threads, precision: rest.precision };
    const known_ = new Set(["code", "device", "python", "torch", "threads", "precision"]);
    const more = Object.fromEntries(Object.entries(rest).filter(([name]) => !known_.has(name)));
    const read = Object.fromEntries(Object.entries(inputs).map(([role, digest]) => [`input ${role}, SHA-256`, `${short(digest)}…`]));
    const measured = evaluation.code ? { "evaluated on": evaluation.device, "evaluated by, fingerprint": evaluation.code } : {};
    return { ...of, ...more, ...read, ...measured, "page made at commit": content.commit || null };
  }

  const link = (href, text, download) => (inPlace ? make("a", { href, download: download || null }, text) : make("span", { title: "open the page in its place, results/studies/, to follow its links" }, text));

  function files(recipe, cells) {
    const folder = (seed) => ["..", "..", state.dataset, `seed=${seed}`, ...stagesOf(recipe)].map((part) => encodeURIComponent(part).replace(/%(2C|3D|5E|2B)/g, decodeURIComponent)).join("/");
    return make("div", { class: "links" }, ...cells.flatMap(({ seed, details }) => [make("b", {}, `results/${state.dataset}/seed=${seed}/${recipe}/`), ...details.files.map((name) => link(`${folder(seed)}/${name}`, name, name))]));
  }

  // ---------------------------------------------------------------- two models

  function pick(row) {
    state.picked = state.picked.includes(row) ? state.picked.filter((each) => each !== row) : [...state.picked, row].slice(-2);
    showTray();
  }

  function showTray() {
    for (const row of shown) {
      const picked = state.picked.includes(row);
      row.box.checked = picked;
      row.element.classList.toggle("picked", picked);
    }
    byId("tray").hidden = !state.picked.length;
    byId("picked").replaceChildren(...(state.picked.length === 2 ? [recipeText(state.picked[0].recipe), " against ", recipeText(state.picked[1].recipe)] : state.picked.length ? [recipeText(state.picked[0].recipe), " against … pick one more"] : []));
    byId("compare").disabled = state.picked.length < 2;
  }

  function compareRows() {
    const [one, two] = state.picked;
    compare(one.recipe, two.recipe, one.seeds, two.seeds);
  }

  /** Return 97.5% of the t distribution with this many degrees of freedom. */
  const quantile = (freedom) => content.quantiles[freedom - 1] || 1.96;

  /** Return mean and half a 95% interval of values, by the t distribution or, for many, by the normal one. */
  function interval(values, factor) {
    const middle = mean(values);
    const spread = Math.sqrt(sum(values.map((value) => (value - middle) ** 2)) / (values.length - 1));
    return { difference: middle, half: (factor * spread) / Math.sqrt(values.length) };
  }

  /** Return the differences of two models' accuracies, in points: over seeds that both have, and over test images. */
  function contrast(ones, twos) {
    const { labels } = content.datasets[state.dataset];
    const shared = ones.map((one) => [one, twos.find((two) => two.seed === one.seed)]).filter(([, two]) => two);
    const pairs = shared.length ? shared : [[ones[0], twos[0]]];
    const perImage = new Float64Array(labels.length);
    const both = { both: 0, first: 0, second: 0, neither: 0 };
    const perSeed = pairs.map(([one, two]) => {
      const [left, right] = [predictedBy(one.details), predictedBy(two.details)];
      let total = 0;
      labels.forEach((label, image) => {
        const [a, b] = [left[image] === label, right[image] === label];
        both[a ? (b ? "both" : "first") : b ? "second" : "neither"] += 1 / pairs.length;
        perImage[image] += (a - b) / pairs.length;
        total += a - b;
      });
      return (100 * total) / labels.length;
    });
    const images = interval([...perImage].map((value) => 100 * value), 1.959964);
    const seeds = pairs.length > 1 ? interval(perSeed, quantile(pairs.length - 1)) : null;
    return { pairs: pairs.length, both, perSeed, seeds, images };
  }

  function plannedRow(recipe, other) {
    const { columns: names, rows } = content.comparisons;
    const at = (name) => names.indexOf(name);
    const objects = rows.filter((row) => row[at("dataset")] === state.dataset && [[recipe, other], [other, recipe]].some(([one, two]) => row[at("recipe")] === one && row[at("other")] === two))
      .map((row) => Object.fromEntries(names.map((name, place) => [name, row[place]])));
    const [first] = objects.sort((one, two) => (two.p_holm ?? -1) - (one.p_holm ?? -1));
    if (!first || first.recipe === recipe) return first;
    const turned = { ...first, difference: -first.difference, verdict: { better: "worse", worse: "better" }[first.verdict] || first.verdict };
    for (const [low, high] of [["low", "high"], ["image_low", "image_high"]]) [turned[low], turned[high]] = [first[high], first[low]].map((value) => (known(value) ? -value : value));
    return turned;
  }

  /** Return difference, intervals and verdict: of the study's planned comparisons, else from the images in this page. */
  function judged(recipe, other, ones, twos) {
    const made = contrast(ones, twos);
    const planned = ones.length > 1 || seedsOf(recipe).length === 1 ? plannedRow(recipe, other) : null;
    const span = (name, low, high, difference_) => ({ name, low, high, difference: difference_ });
    if (planned) {
      const middle = 100 * planned.difference;
      const spans = [known(planned.low) ? span(`${planned.seeds} seeds, ${planned.test} t test`, 100 * planned.low, 100 * planned.high, middle) : null, span("test images, bootstrap", 100 * planned.image_low, 100 * planned.image_high, middle)].filter(Boolean);
      const corrected = known(planned.p_holm) ? `p over seeds ${planned.p_holm.toPrecision(2)}, over images ${planned.p_images_holm.toPrecision(2)}, both after Holm's correction.` : "Without a test over seeds there is no verdict.";
      return { ...made, difference: middle, spans, verdict: planned.verdict || "", note: `A planned comparison of this study (${planned.family}, comparisons.csv). ${corrected}` };
    }
    const { seeds, images } = made;
    const spans = [seeds ? span(`${made.pairs} seeds, paired t`, seeds.difference - seeds.half, seeds.difference + seeds.half, seeds.difference) : null, span("test images, paired", images.difference - images.half, images.difference + images.half, images.difference)].filter(Boolean);
    const beyond = spans.every(({ low, high }) => low > 0 || high < 0);
    const verdict = !seeds || !seeds.half ? "" : beyond ? (seeds.difference > 0 ? "better" : "worse") : "undecided";
    const note = seeds ? "Not a planned comparison: computed in this page, not corrected for how many pairs one may look at." : "A single seed: the interval speaks of other test images alone, nothing of other seeds, so there is no verdict.";
    return { ...made, difference: (seeds || images).difference, spans, verdict, note };
  }

  /** Open two models side by side. */
  async function compare(recipe, other, seeds = seedsOf(recipe), otherSeeds = seedsOf(other)) {
    const [ones, twos] = await Promise.all([cellsOf(recipe, seeds), cellsOf(other, otherSeeds)]);
    if (!ones.length || !twos.length) return;
    const result = judged(recipe, other, ones, twos);
    const [left, right] = [rowOf(recipe, seeds), rowOf(other, otherSeeds)];
    const of = (list) => (list.length > 1 ? `${list.length} seeds` : `seed ${list[0]}`);
    const title = make("h2", { id: "sheet-title" }, make("small", {}, `${state.dataset}: two models side by side`), recipeText(recipe), make("span", { class: "slash" }, " against "), recipeText(other));
    const trainings = (await Promise.all([trainingOf(recipe, seeds, ones), trainingOf(other, otherSeeds, twos)])).filter(Boolean);
    const layers = [{ name: recipe, cells: ones }, { name: other, cells: twos }].filter(({ cells }) => cells[0].details.layers.some(([, , error]) => known(error)));
    sheet(title, true,
      make("section", { "aria-label": "Difference" }, make("p", { class: "big" }, `${points(result.difference)} points `, verdictOf(result.verdict)), spanLines(result), make("p", { class: "note" }, result.note)),
      make("section", { class: "versus" }, ...[[recipe, seeds, 0], [other, otherSeeds, 1]].map(([name, list, place]) => make("div", { style: `border-color: var(--colour${place})` }, recipeText(name), make("br"), make("button", { type: "button", click: () => open(name, list) }, `Open, ${of(list)}`)))),
      titled("Measures", measureTable(left, right)), titled("Test images", agreement(result, ones.length > 1)),
      trainings.length ? titled("Training", make("div", { class: "plot", id: "training" })) : "", layers.length ? titled("Error of each layer's output", make("div", { class: "plot", id: "layers" }), make("p", { class: "note" }, LAYERS_NOTE)) : "");
    if (trainings.length) chart(byId("training"), () => trainingPlan(trainings[1]?.name === trainings[0].name ? trainings.slice(0, 1) : trainings));
    if (layers.length) {
      byId("layers").style.height = `${Math.max(16, 6.4 + 1.05 * layers[0].cells[0].details.layers.length)}rem`;
      chart(byId("layers"), () => layersPlan(layers));
    }
    remember("");
  }

  function spanLines(result) {
    const scale = scaleOf(result.spans);
    return make("div", {}, ...result.spans.map((span) => make("div", { class: "contrast wide" }, make("span", { class: "label" }, span.name), track({ ...span, verdict: result.verdict }, scale), make("span", { class: "number" }, points(span.difference)), make("span", { class: "ends" }, `${points(span.low)} to ${points(span.high)}`))));
  }

  function measureTable(left, right) {
    const names = [...measures.keys()].filter((name) => known(left[name]) || known(right[name]));
    return make("div", { class: "sideways" }, make("table", { class: "plain numbers" }, make("thead", {}, make("tr", {}, make("th", {}, ""), make("th", { scope: "col" }, "first"), make("th", { scope: "col" }, "second"), make("th", { scope: "col" }, "difference"), make("th", { scope: "col" }, "ratio"))),
      make("tbody", {}, ...names.map((name) => {
        const both = known(left[name]) && known(right[name]);
        const ratio = both && right[name] && measures.get(name).form !== "share" ? `× ${Number((left[name] / right[name]).toPrecision(3))}` : "";
        return make("tr", {}, make("th", { scope: "row" }, capital(measures.get(name).label)), make("td", {}, written(name, left[name])), make("td", {}, written(name, right[name])), make("td", {}, both ? difference(name, left[name] - right[name]) : ""), make("td", {}, ratio));
      }))));
  }

  function agreement({ both, pairs }, several) {
    const lines = [["both are right", both.both], ["only the first is right", both.first], ["only the second is right", both.second], ["both are wrong", both.neither]];
    const total = sum(Object.values(both));
    return make("div", {}, make("table", { class: "plain numbers" }, make("tbody", {}, ...lines.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value.toLocaleString("en", { maximumFractionDigits: 1 })), make("td", {}, `${((100 * value) / total).toFixed(1)}%`))))),
      several ? make("p", { class: "note" }, `Means over ${many(pairs, "pair")} of one seed.`) : "");
  }

  // ---------------------------------------------------------------- files and start

  function showFiles() {
    const names = content.tables.map((name) => [`${name}.csv`, `${name}.csv`]);
    const figures = Object.keys(content.datasets).flatMap((dataset) => [make("b", {}, `Figures of ${dataset}`), ...content.figures.map((name) => link(`figures/${encodeURIComponent(dataset)}/${encodeURIComponent(name)}.svg`, name.replaceAll("_", " ")))]);
    byId("links").replaceChildren(make("b", {}, "Tables, one row per model or comparison"), ...names.map(([href, text]) => link(encodeURIComponent(href), text)), ...figures);
    byId("made").textContent = `${content.commit ? `Made by KDQ at commit ${content.commit}. ` : ""}This page is one file and asks nothing of a network; links to models and tables work where it lies, in results/studies/.`;
  }

  function onFirstHash() {
    const parts = /^#model=([^&]+)&([^&]+)&(.+)$/.exec(location.hash);
    if (!parts) return;
    const [dataset, seeds, recipe] = parts.slice(1).map(decodeURIComponent);
    if (dataset in content.datasets && dataset !== state.dataset) choose(dataset);
    open(recipe, seeds.split("+").map(Number));
  }

  function listen() {
    byId("theme").addEventListener("click", () => {
      const names = Object.keys(THEMES);
      const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
      kept(next);
      setTheme(next);
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(document.documentElement.dataset.theme));
    let pause = 0;
    byId("filter").addEventListener("input", (event) => {
      state.words = event.target.value;
      clearTimeout(pause);
      pause = setTimeout(filter, 60);
    });
    for (const id of ["network", "quantizer"]) byId(id).addEventListener("change", (event) => { state[id] = event.target.value; filter(); });
    for (const select of document.querySelectorAll("select.level")) select.addEventListener("change", () => { state.level = select.value; showRows(); });
    byId("x").addEventListener("change", () => { axisChosen(); draw(); });
    for (const id of ["y", "front", "log"]) byId(id).addEventListener("change", draw);
    const body = byId("table").tBodies[0];
    body.addEventListener("click", (event) => {
      const row = shown.find((each) => each.element === event.target.closest("tr"));
      if (row) rove(row), row.element.focus(), open(row.recipe, row.seeds);
    });
    body.addEventListener("keydown", onTableKey);
    byId("compare").addEventListener("click", compareRows);
    byId("clear").addEventListener("click", () => { state.picked = []; showTray(); });
    const dialog = byId("sheet");
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => {
      remember("");
      dialog.replaceChildren();
      opener?.focus();
    });
    addEventListener("keydown", (event) => {
      if (event.key === "/" && !dialog.open && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
        event.preventDefault();
        byId("filter").focus();
      }
    });
    byId("filter-help").textContent = `Words match the recipe; numbers are compared: ${Object.entries(ALIASES).filter(([, [name]]) => measures.has(name)).map(([alias]) => alias).filter((alias) => !["test", "act", "bytes"].includes(alias)).join(", ")} with <, <=, =, >=, >. Keys: / filters, ↑ ↓ move, Enter opens, space picks two to compare, Esc closes.`;
  }

  setTheme(kept() in THEMES ? kept() : "auto");
  byId("study-name").textContent = content.study;
  listen();
  fillAxes();
  showDatasets();
  showFindings();
  showRows();
  showFiles();
  onFirstHash();
  window.kdq = { front, contrast, interval, content };
})();
