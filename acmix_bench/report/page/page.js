"use strict";
// Everything on the page is there without this: it sorts tables, and shows raw samples where one points.

for (const table of document.querySelectorAll("table.numbers")) {
  const body = table.tBodies[0], before = [...body.rows];
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: "" }[head.getAttribute("aria-sort")] ?? "ascending";
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      if (next) head.setAttribute("aria-sort", next);
      body.append(...(next ? sorted(before, column, next === "ascending" ? 1 : -1) : before));
    });
  });
}

// By number where cells have one, else by text; what has no number comes last, either way.
function sorted(rows, column, way) {
  const numbers = rows.some((row) => row.cells[column].dataset.sort);
  const text = new Intl.Collator("en", { numeric: true });
  return [...rows].sort((a, b) => {
    const [one, other] = [a.cells[column], b.cells[column]];
    if (!numbers) return way * text.compare(one.textContent, other.textContent);
    const [x, y] = [one.dataset.sort, other.dataset.sort];
    return x && y ? way * (x - y) : Boolean(y) - Boolean(x);
  });
}

// On a strip: what the nearest dot is.
for (const strip of document.querySelectorAll(".strip")) {
  const value = strip.parentElement.querySelector(".value"), shown = value.textContent;
  const dots = [...strip.querySelectorAll("circle")];
  let near;
  const tell = (dot) => {
    near?.classList.remove("near");
    near = dot;
    near?.classList.add("near");
    value.textContent = near ? near.textContent : shown;
  };
  const point = (event) => {
    const away = (dot) => {
      const box = dot.getBoundingClientRect();
      return Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
    };
    tell(dots.reduce((best, dot) => (away(dot) < away(best) ? dot : best)));
  };
  strip.addEventListener("pointermove", point);
  strip.addEventListener("pointerdown", point);
  strip.addEventListener("pointerleave", () => tell());
}

// On a row of a table: its samples, from wherever they stand on the page.
const card = document.createElement("div");
card.id = "samples";
card.hidden = true;
card.setAttribute("aria-hidden", "true"); // the row links to the samples themselves
document.body.append(card);

function show(row, x, y) {
  const strips = [...document.querySelectorAll(`.samples li[data-row="${row.dataset.row}"]`)].slice(0, 4);
  card.replaceChildren();
  for (const strip of strips) {
    const line = document.createElement("p"), title = document.createElement("span");
    title.textContent = strip.dataset.chart;
    line.append(title, strip.querySelector(".value").textContent);
    card.append(line, strip.querySelector("svg").cloneNode(true));
  }
  card.hidden = !strips.length;
  const box = card.getBoundingClientRect();
  const above = y + 22 + box.height > innerHeight && y > box.height + 14;
  card.style.left = `${scrollX + Math.max(8, Math.min(x + 16, document.body.clientWidth - box.width - 8))}px`;
  card.style.top = `${scrollY + (above ? y - box.height - 14 : y + 22)}px`;
}

let waiting; // a pointer that only crosses a row shows nothing
const hide = () => {
  clearTimeout(waiting);
  card.hidden = true;
};
for (const row of document.querySelectorAll("tr[data-row]")) {
  row.addEventListener("pointerenter", (event) => {
    if (event.pointerType === "mouse") waiting = setTimeout(show, 150, row, event.clientX, event.clientY);
  });
  row.addEventListener("pointerleave", hide);
  row.addEventListener("focusin", (event) => {
    if (!event.target.matches(":focus-visible")) return;
    const box = event.target.getBoundingClientRect();
    show(row, box.right, box.bottom);
  });
  row.addEventListener("focusout", hide);
}
addEventListener("keydown", (event) => {
  if (event.key === "Escape") hide();
});
