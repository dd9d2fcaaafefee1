// Lets a reader choose variants and seeds, read values off the curves, and look at a single client.
"use strict";
(() => {
  const numbers = JSON.parse(document.getElementById("numbers").textContent);
  const variants = numbers.variants;
  const hidden = new Set();      // indices of hidden variants
  const left = new Set();        // hidden seeds
  const make = (name, words = {}, text = "") => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(words)) node.setAttribute(key, value);
    node.textContent = text;
    return node;
  };
  const short = (value) => Number(value.toPrecision(3)).toString().replace("-", "\u2212");
  const shown = (line) => Object.entries(line.seeds).filter(([seed]) => !left.has(seed)).map(([, values]) => values);
  const at = (line, i) => shown(line).map((values) => values[i]).filter((value) => value !== null);
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const chip = (variant) => make("i", { class: "chip v" + variant });

  // Every panel of curves, with its scales.
  const panels = [...document.querySelectorAll("svg[data-frame]")].map((svg) => {
    const [l, t, r, b, x0, x1, y0, y1, log] = svg.dataset.frame.split(" ").map(Number);
    const scaled = log ? Math.log : (value) => value;
    const panel = {
      svg, ...numbers.panels[svg.dataset.panel], left: l, right: r, top: t, bottom: b, x0, x1,
      across: (x) => l + (x - x0) / (x1 - x0) * (r - l),
      up: (y) => b - (scaled(y) - scaled(y0)) / (scaled(y1) - scaled(y0)) * (b - t),
      groups: [...svg.querySelectorAll("g.series")],
      cursor: document.createElementNS("http://www.w3.org/2000/svg", "path"),
      readout: make("div", { class: "readout" }),
    };
    panel.cursor.setAttribute("class", "cursor");
    svg.append(panel.cursor);
    svg.after(panel.readout);
    return panel;
  });
  const byRound = panels.filter((panel) => panel.label === "round");
  const seeds = [...new Set(panels.flatMap((p) => p.lines.flatMap((line) => Object.keys(line.seeds))))]
    .sort((a, b) => a - b);
  // A panel of a single round has half a round on both sides.
  const last = Math.max(0, ...byRound.map((panel) => Math.floor(panel.x1)));
  const first = Math.min(last, ...byRound.map((panel) => Math.ceil(panel.x0)));

  const draw = (panel) => panel.lines.forEach((line, k) => {
    const group = panel.groups[k];
    const points = line.x.map((x, i) => [x, at(line, i)]).filter(([, values]) => values.length);
    group.classList.toggle("empty", !points.length);
    const path = (kind, d) => { const node = group.querySelector("." + kind); if (node) node.setAttribute("d", d); };
    const joined = (list) => "M" + list.map(([x, y]) => panel.across(x).toFixed(1) + " " + panel.up(y).toFixed(1)).join("L");
    const means = points.map(([x, values]) => [x, mean(values)]);
    if (!points.length) return;
    path("line", joined(means));
    path("mark", joined(means) + "h0");
    path("band", joined([...points.map(([x, values]) => [x, Math.min(...values)]),
                         ...points.map(([x, values]) => [x, Math.max(...values)]).reverse()]) + "Z");
    path("dots", points.map(([x, values]) => values.map((y) => joined([[x, y]]) + "h0").join("")).join(""));
  });

  const read = (panel, x) => {
    const rows = panel.lines.filter((line) => !hidden.has(line.variant)).map((line) => {
      const i = line.x.reduce((best, each, k) => Math.abs(each - x) < Math.abs(line.x[best] - x) ? k : best, 0);
      return [line, i, at(line, i)];
    }).filter(([, , values]) => values.length);
    panel.readout.textContent = "";
    if (!rows.length) return;
    const place = rows[0][0].x[rows[0][1]];
    panel.cursor.setAttribute("d", "M" + panel.across(place).toFixed(1) + " " + panel.top + "V" + panel.bottom);
    panel.readout.append(make("b", {}, (panel.label === "round" ? "round " + place : short(place) + " %")));
    for (const [line, , values] of rows) {
      const item = make("span", { title: variants[line.variant] + ": " + values.map(short).join(", ") });
      item.append(chip(line.variant), short(mean(values)));
      panel.readout.append(item);
    }
  };

  // The bar of controls.
  const bar = make("div", { class: "controls" });
  const button = (text, toggled) => {
    const node = make("button", { type: "button", "aria-pressed": "true" });
    if (typeof text === "number") node.append(chip(text), variants[text]); else node.textContent = text;
    node.onclick = () => {
      const on = node.getAttribute("aria-pressed") !== "true";
      node.setAttribute("aria-pressed", on);
      toggled(on);
      update();
    };
    return node;
  };
  const row = (name, ...items) => {
    const group = make("div", { role: "group", "aria-label": name });
    group.append(make("span", { class: "soft" }, name), ...items);
    bar.append(group);
  };
  const choice = (set, value) => (on) => on ? set.delete(value) : set.add(value);
  row("variants", ...variants.map((_, i) => button(i, choice(hidden, i))));
  if (seeds.length > 1) row("seeds of the curves", ...seeds.map((seed) => button(seed, choice(left, seed))));
  const slider = make("input", { type: "range", min: first, max: last, step: 1, "aria-label": "round" });
  slider.value = last;
  const told = make("output", {}, last);
  if (last > first) row("round", slider, told);
  slider.oninput = () => { told.textContent = slider.value; byRound.forEach((panel) => read(panel, +slider.value)); };
  if (variants.length > 1 || last > first) document.querySelector("main").prepend(bar);

  const update = () => {
    document.querySelectorAll("[class*=' v'], [class^='v']").forEach((node) => {
      const variant = [...node.classList].find((name) => /^v\d+$/.test(name));
      const whole = node.matches("g.series") ? node : node.closest(".legend span, tr");
      if (variant && whole) whole.classList.toggle("off", hidden.has(+variant.slice(1)));
    });
    panels.forEach((panel) => { draw(panel); read(panel, panel.label === "round" ? +slider.value : 50); });
  };
  panels.forEach((panel) => {
    panel.svg.onpointermove = (event) => {
      const box = panel.svg.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * panel.svg.viewBox.baseVal.width;
      const value = panel.x0 + (x - panel.left) / (panel.right - panel.left) * (panel.x1 - panel.x0);
      if (panel.label !== "round") return read(panel, value);
      slider.value = Math.round(value);
      slider.oninput();
    };
  });

  // A client: its accuracy in each variant, and its mix of classes.
  document.querySelectorAll("svg[data-panel]:not([data-frame])").forEach((svg) => {
    const panel = numbers.panels[svg.dataset.panel];
    if (!panel.clients) return;
    const card = make("div", { class: "readout client" }, "Point at a client to see what it has.");
    svg.after(card);
    svg.onpointermove = svg.onclick = (event) => {
      const column = event.target.dataset && event.target.dataset.column;
      if (column === undefined) return;
      card.textContent = "";
      card.append(make("b", {}, "client " + panel.clients[column] + ", " + panel.samples[column] + " examples"));
      panel.rows.forEach((name, k) => {
        const item = make("span", { title: name });
        item.append(chip(variants.indexOf(name)), name + " " + short(panel.accuracy[k][column] ?? NaN));
        card.append(item);
      });
      const mix = panel.mix[column];
      if (!mix) return;
      const most = Math.max(...mix), bars = make("div", { class: "mix" });
      mix.forEach((count, k) => {
        const item = make("span", { title: panel.classes[k] + ": " + count });
        const column = make("i", { style: "height:" + (60 * count / most).toFixed(1) + "px" });
        item.append(column, make("small", {}, panel.classes[k]));
        bars.append(item);
      });
      card.append(bars);
    };
  });
  update();
})();
