  sides.forEach((side, k) => {
    for (const { at, i } of side.words) {
      at.addEventListener("pointerenter", () => point([k, i]));
      at.addEventListener("focus", () => { if (at.matches(":focus-visible")) point([k, i]); });
      at.addEventListener("click", () => pin([k, i]));
      at.addEventListener("pointerleave", () => point(null));
      at.addEventListener("blur", () => point(null));
      at.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], all = side.words.map((word) => word.at);
        if (event.key === "Enter" || event.key === " ") { pin([k, i]); event.preventDefault(); }
        if (event.key === "Escape") { pinned = null; at.blur(); show(null); }
        if (step) { all[all.indexOf(at) + step]?.focus(); event.preventDefault(); }
      });
    }
    for (const { view } of side.views) {
      view.on = (m) => point(m < 0 ? null : [k, view.image_view.members[m]]);
      view.figure.querySelector(".photo").addEventListener("click", () => { if (view.marked >= 0) pin([k, view.image_view.members[view.marked]]); });
    }
  });
