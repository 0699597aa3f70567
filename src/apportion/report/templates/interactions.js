// What one feature does to each other one, and what they do to it: in the text, on pictures and as arrows.
(() => {
  const root = document.querySelector(".apportion"), content = {{ content|tojson }};
  {% if pictures %}
  const { views, number } = apportionImages(root, {{ pictures|tojson }});
  {% else %}
  const views = [], number = (value) => (value === 0 ? "0" : (value < 0 ? "−" : "+") + Number(Math.abs(value).toPrecision(4)));
  {% endif %}
  const said = root.querySelector(".said"), first = said.textContent;
  const arrows = [...root.querySelectorAll(".arrow")], marks = [...root.querySelectorAll(".scroll text")];
  const slider = root.querySelector(".how-many input"), ways = [...root.querySelectorAll("[data-way]")];
  const sides = content.sides.map((side, k) => ({
    labels: side.labels,
    words: [...root.querySelectorAll(`.side-${k} .feature`)].map((at) => ({ at, i: +at.dataset.i, step: at.dataset.step, tip: at.dataset.tip })),
    views: views.filter((view) => side.maps.includes(+view.figure.dataset.map)).map((view) => ({ view, whole: view.map, sum: view.figure.querySelector(".sum").textContent })),
    scale: [...root.querySelectorAll(`.side-${k} .legend span`)],
  }));
  const ends = sides.map((side) => side.scale.map((end) => end.textContent));
  let pinned = null, shown = null;
  const receiving = (k) => (content.square ? ways.some((way) => way.checked && way.dataset.way === "receives") : k === 1);
  // The source and the target when the chosen feature meets feature i.
  const pair = ([k, c], i) => (receiving(k) ? [i, c] : [c, i]);
  const stepOf = (value) => {
    const step = content.largest ? Math.round((content.steps * Math.max(-content.largest, Math.min(content.largest, value))) / content.largest) : 0;
    return step === 0 ? "z" : (step < 0 ? "n" : "p") + Math.abs(step);
  };
  const coloured = (word, step, tip) => {
    word.at.className = word.at.className.replace(/\b(z|[np]\d+)\b/g, "").trim() + " " + step;
    word.at.dataset.tip = tip;
  };
  const same = (a, b) => a && b && a[0] === b[0] && a[1] === b[1];
  function show(chosen) {
    shown = chosen;
    const source = chosen && sides[chosen[0]].labels[chosen[1]];
    sides.forEach((side, k) => {
      const moved = chosen && (content.square || chosen[0] !== k);
      for (const word of side.words) {
        const mine = same(chosen, [k, word.i]);
        word.at.classList.toggle("chosen", Boolean(mine));
        word.at.setAttribute("aria-pressed", String(Boolean(same(pinned, [k, word.i]))));
        if (!moved || mine) { coloured(word, word.step, word.tip); continue; }
        const [j, i] = pair(chosen, word.i), value = content.values[j][i], from = receiving(chosen[0]) ? side.labels[word.i] : source;
        const to = receiving(chosen[0]) ? source : side.labels[word.i], error = content.errors ? ` ± ${Number(content.errors[j][i].toPrecision(2))}` : "";
        const title = content.own[i] === j ? `“${to}” by itself` : `“${from}” ${content.link} “${to}”`;
        coloured(word, content.own[i] === j ? "z" : stepOf(value), `${title}\n${number(value, content.largest)}${error} ${content.unit}`);
      }
      side.scale.forEach((end, e) => { end.textContent = moved ? number(e ? content.largest : -content.largest, content.largest) : ends[k][e]; });
      for (const { view, whole, sum } of side.views) {
        if (!moved) { if (view.map !== whole) view.show({ ...whole, sum }); continue; }
        const scores = view.image_view.members.map((m) => { const [j, i] = pair(chosen, m); return content.own[i] === j ? 0 : content.values[j][i]; });
        const total = scores.reduce((a, b) => a + b, 0);
        view.show({ ...whole, scores, largest: content.largest, low: Math.min(0, ...scores), total: 0, sum: `together ${number(total, Math.abs(total))} ${content.unit}` });
      }
    });
    const keep = pinned ? " Click it again to let it go." : "";
    said.textContent = !chosen ? first : content.link === "↔" ? `“${source}” with each of the others.${keep}` : receiving(chosen[0]) ? `What each ${content.square ? "of the others" : "source"} does to “${source}”.${keep}` : `What “${source}” does to each ${content.square ? "of the others" : "target"}.${keep}`;
    for (const mark of marks) mark.classList.toggle("chosen", Boolean(same(chosen, [+mark.dataset.side, +mark.dataset.i])));
    draw();
  }
  // Of a chosen feature all arrows, else as many as the reader asks for.
  function draw() {
    for (const arrow of arrows) {
      const { rank, j, i } = arrow.dataset;
      const ends = content.link === "↔" ? [+j, +i] : [+(shown && receiving(shown[0]) ? i : j)];
      const seen = shown ? ends.includes(shown[1]) : +rank < (slider ? +slider.value : arrows.length);
      if (seen) arrow.removeAttribute("display"); else arrow.setAttribute("display", "none");
    }
    if (slider) slider.nextElementSibling.textContent = slider.value;
  }
  const point = (chosen) => { if (!pinned) show(chosen); };
  const pin = (chosen) => { pinned = same(pinned, chosen) ? null : chosen; show(pinned); };
  slider?.addEventListener("input", draw);
  for (const way of ways) way.addEventListener("change", () => show(shown));
  for (const mark of marks) {
    const at = [+mark.dataset.side, +mark.dataset.i];
    mark.addEventListener("pointerenter", () => point(at));
    mark.addEventListener("pointerleave", () => point(null));
    mark.addEventListener("click", () => pin(at));
  }
{% include "sides.js" %}

})();
