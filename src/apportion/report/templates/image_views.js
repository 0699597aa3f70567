// Heat maps over pictures: drawn from arrays, so that a page has one canvas for an image and no node for a patch.
function apportionImages(root, content) {
  const settings = { opacity: 0.85, signed: true, grid: false, top: 5 };
  const image_views = content.image_views.map((image_view) => {
    const cells = new Int32Array(image_view.rows * image_view.columns);
    for (let k = 0, at = 0, value = 0; k < image_view.runs.length; k += 2)
      for (let n = 0; n < image_view.runs[k + 1]; n++) cells[at++] = value += image_view.runs[k];
    const label = (m) => (image_view.labels ? image_view.labels[m] : `${image_view.word} ${Math.floor(m / image_view.columns)},${m % image_view.columns}`);
    return { ...image_view, cells, label };
  });
  const number = (value, largest) => {
    const digits = largest >= 1e6 || (largest < 1e-4 && largest > 0) ? null : Math.max(0, 3 - Math.floor(Math.log10(largest || 1)));
    const text = digits === null ? Math.abs(value).toExponential(2) : Math.abs(value).toFixed(digits);
    return value === 0 ? "0" : (value < 0 ? "−" : "+") + text;
  };
  const views = [];
  for (const figure of root.querySelectorAll(".image_view[data-map]")) {
    const map = content.maps[+figure.dataset.map];
    views.push(view(figure, image_views[map.image_view], map));
  }
  function view(figure, image_view, first) {
    const photo = figure.querySelector(".photo"), scale = figure.querySelector(".scale");
    const canvas = document.createElement("canvas"), tag = document.createElement("div"), small = document.createElement("canvas");
    photo.querySelectorAll("img, svg").forEach((still) => still.remove());
    photo.append(canvas);
    tag.className = "tag"; tag.setAttribute("role", "status");
    figure.append(tag);
    small.width = image_view.columns; small.height = image_view.rows;
    const self = { figure, image_view, map: first, marked: -1, show, draw, mark, on: null };
    let order = [];
    function show(map) {
      self.map = map;
      paint(); label(); draw();
      if (self.marked >= 0) tell(self.marked);
    }
    function paint() {
      const { scores, largest } = self.map, pen = small.getContext("2d"), image = pen.createImageData(small.width, small.height);
      const value = (m) => (Number.isFinite(scores[m]) ? scores[m] : 0);
      image_view.cells.forEach((m, c) => {
        if (m < 0 || !largest) return;
        const at = Math.max(-1, Math.min(1, value(m) / largest));
        if (at < 0 && !settings.signed) return;
        image.data.set([...(at < 0 ? content.takes : content.adds), Math.round(255 * Math.abs(at))], 4 * c);
      });
      pen.putImageData(image, 0, 0);
      const size = settings.signed ? (m) => Math.abs(value(m)) : value;
      order = [...scores.keys()].filter((m) => size(m) > 0).sort((a, b) => size(b) - size(a));
    }
    function label() {
      const { largest, sum, low, scores } = self.map, beyond = (sign) => scores.some((score) => sign * score > largest * 1.0001);
      scale.classList.toggle("adding", !settings.signed || low >= 0);
      scale.firstElementChild.textContent = settings.signed && low < 0 ? (beyond(-1) ? "≤ " : "") + number(-largest, largest) : "0";
      scale.lastElementChild.textContent = (beyond(1) ? "≥ " : "") + number(largest, largest);
      if (sum !== undefined) figure.querySelector(".sum").textContent = sum;
    }
    function edges(path, differs, w, h) {
      const { rows, columns, cells } = image_view, at = (r, c) => (r < 0 || c < 0 || r >= rows || c >= columns ? -2 : cells[r * columns + c]);
      for (let r = 0; r <= rows; r++)
        for (let c = 0; c <= columns; c++) {
          if (c < columns && differs(at(r, c), at(r - 1, c))) { path.moveTo(c * w, r * h); path.lineTo((c + 1) * w, r * h); }
          if (r < rows && differs(at(r, c), at(r, c - 1))) { path.moveTo(c * w, r * h); path.lineTo(c * w, (r + 1) * h); }
        }
    }
    function draw() {
      const ratio = window.devicePixelRatio || 1, wide = photo.clientWidth, tall = photo.clientHeight;
      if (!wide || !tall) return;
      canvas.width = wide * ratio; canvas.height = tall * ratio;
      const pen = canvas.getContext("2d"), w = canvas.width / image_view.columns, h = canvas.height / image_view.rows;
      pen.imageSmoothingEnabled = false;
      pen.globalAlpha = settings.opacity;
      pen.drawImage(small, 0, 0, canvas.width, canvas.height);
      pen.globalAlpha = 1;
      pen.lineCap = "square";
      if (settings.grid) {
        const path = new Path2D();
        edges(path, (a, b) => a !== b, w, h);
        pen.strokeStyle = "rgb(255 255 255 / .45)"; pen.lineWidth = ratio;
        pen.stroke(path);
      }
      const outlined = new Set(order.slice(0, settings.top));
      if (outlined.size) outline(pen, (a, b) => a !== b && (outlined.has(a) || outlined.has(b)), 1.75 * ratio, w, h);
      if (self.marked >= 0) outline(pen, (a, b) => (a === self.marked) !== (b === self.marked), 3 * ratio, w, h);
    }
    function outline(pen, differs, line, w, h) {
      const path = new Path2D();
      edges(path, differs, w, h);
      pen.strokeStyle = "rgb(0 0 0 / .75)"; pen.lineWidth = 2.2 * line; pen.stroke(path);
      pen.strokeStyle = "#fff"; pen.lineWidth = line; pen.stroke(path);
    }
    function tell(m, x, y) {
      const { scores, largest, unit, total, of } = self.map, rank = order.indexOf(m);
      const share = total ? ` · ${number((100 * scores[m]) / total, 100)}% of ${of}` : "";
      tag.textContent = `${image_view.label(m)}\n${number(scores[m], largest)} ${unit}${share}` + (rank < 0 ? "" : `\nrank ${rank + 1} of ${scores.length}`);
      const first = image_view.cells.indexOf(m), box = photo.getBoundingClientRect();
      x ??= (((first % image_view.columns) + 1) / image_view.columns) * box.width;
      y ??= ((Math.floor(first / image_view.columns) + 1) / image_view.rows) * box.height;
      tag.style.left = `${Math.max(0, Math.min(x + 14, box.width - tag.offsetWidth))}px`;
      tag.style.top = `${y + 16}px`;
    }
    function mark(m, x, y) {
      const changed = m !== self.marked;
      self.marked = m;
      if (m < 0) tag.textContent = ""; else tell(m, x, y);
      if (changed) { draw(); self.on?.(m); }
    }
    const under = (event) => {
      const box = photo.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
      const r = Math.min(image_view.rows - 1, Math.max(0, Math.floor((y / box.height) * image_view.rows)));
      const c = Math.min(image_view.columns - 1, Math.max(0, Math.floor((x / box.width) * image_view.columns)));
      mark(image_view.cells[r * image_view.columns + c], x, y);
    };
    photo.addEventListener("pointermove", under);
    photo.addEventListener("pointerdown", under);
    photo.addEventListener("pointerleave", () => mark(-1));
    photo.addEventListener("blur", () => mark(-1));
    photo.addEventListener("keydown", (event) => {
      const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] ?? [];
      if (down === undefined) return event.key === "Escape" ? mark(-1) : undefined;
      event.preventDefault(); event.stopPropagation();
      let at = Math.max(0, image_view.cells.indexOf(self.marked < 0 ? order[0] ?? 0 : self.marked));
      if (self.marked < 0) return mark(image_view.cells[at]);
      let r = Math.floor(at / image_view.columns), c = at % image_view.columns, m = self.marked;
      while (m === self.marked || m < 0) {
        r += down; c += right;
        if (r < 0 || c < 0 || r >= image_view.rows || c >= image_view.columns) return;
        m = image_view.cells[r * image_view.columns + c];
      }
      mark(m);
    });
    new ResizeObserver(draw).observe(photo);
    self.paint = () => { paint(); label(); draw(); };
    show(first);
    return self;
  }
  for (const controls of root.querySelectorAll(".image_view-controls")) {
    controls.hidden = false;
    controls.addEventListener("input", (event) => {
      const { set } = event.target.dataset;
      if (set === "opacity") settings.opacity = event.target.value / 100;
      if (set === "signed" || set === "positive") settings.signed = set === "signed";
      if (set === "grid") settings.grid = event.target.checked;
      if (set === "top") settings.top = Math.max(0, Math.floor(+event.target.value) || 0);
      if (set === "colour") root.classList.toggle("in-colour", event.target.checked);
      for (const view of views) view.paint();
    });
  }
  // A row of a table of the largest regions marks its region.
  for (const row of root.querySelectorAll("tr[data-member]")) {
    const of = views.find((view) => view.figure.dataset.map === row.dataset.of);
    if (!of) continue;
    row.addEventListener("pointerenter", () => of.mark(+row.dataset.member));
    row.addEventListener("pointerleave", () => of.mark(-1));
  }
  return { views, number };
}
