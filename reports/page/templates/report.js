"use strict";
// Figures: text and grid take the colours of the page, so that they follow light mode, dark mode and print.
const figures = JSON.parse(document.getElementById("figures").textContent);
const plots = [...document.querySelectorAll(".plot")];
const paper = { ink: "#000000", soft: "#444444", line: "#cccccc", raised: "#ffffff" };

function screenColors() {
  const style = getComputedStyle(document.documentElement);
  const colors = {};
  for (const name of ["ink", "soft", "line", "raised"]) colors[name] = style.getPropertyValue("--" + name).trim();
  return colors;
}

function template(colors) {
  const axis = { gridcolor: colors.line, linecolor: colors.soft, tickcolor: colors.soft, showline: true, ticks: "outside", ticklen: 4 };
  return {
    layout: {
      font: { family: 'system-ui, "Segoe UI", "Liberation Sans", sans-serif', size: 12.5, color: colors.ink },
      xaxis: axis,
      yaxis: axis,
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colors.line, activecolor: colors.soft },
      hoverlabel: { bgcolor: colors.raised, bordercolor: colors.soft, font: { color: colors.ink }, align: "left" },
    },
  };
}

const settings = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

// A figure that may not become narrow scrolls instead, so it keeps the layout of a wide page.
const phone = matchMedia("(max-width: 699px)");

function layoutOf(place) {
  const figure = figures[place.dataset.plot];
  return structuredClone(phone.matches && !place.style.minWidth ? figure.narrow : figure.layout);
}

async function drawAll() {
  for (const place of plots) {
    const { data } = figures[place.dataset.plot];
    await Plotly.newPlot(place, data, { ...layoutOf(place), template: template(screenColors()) }, settings);
  }
  markScrolling();
  document.documentElement.dataset.drawn = "all";
}

// Whatever is wider than the page says so above itself; its edges have shadows besides.
function markScrolling() {
  for (const box of document.querySelectorAll(".scroll")) {
    box.classList.toggle("scrolls", box.scrollWidth > box.clientWidth + 1);
  }
}

function restyle(colors, size) {
  for (const place of plots) {
    Plotly.react(place, place.data, { ...place.layout, ...size, template: template(colors) }, settings);
  }
}

phone.addEventListener("change", async () => {
  for (const place of plots) {
    await Plotly.react(place, place.data, { ...layoutOf(place), template: template(screenColors()) }, settings);
  }
});
addEventListener("resize", () => requestAnimationFrame(markScrolling));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => restyle(screenColors(), {}));
addEventListener("beforeprint", () => restyle(paper, { width: 700, autosize: false }));
addEventListener("afterprint", () => restyle(screenColors(), { width: undefined, autosize: true }));

// Trials: sort and filter the table.
const table = document.getElementById("table");

function comparison(text) {
  const parts = /^([^<>=]+)(<=|>=|<|>|=)(.+)$/.exec(text);
  if (!parts) return null;
  const column = [...table.tHead.rows[0].cells].findIndex((cell) => [cell.dataset.name, cell.title].includes(parts[1]));
  const bound = Number(parts[3]);
  if (column < 0 || (Number.isNaN(bound) && parts[2] !== "=")) return null;
  return (row) => {
    const cell = row.cells[column].textContent;
    const value = parseFloat(cell);
    switch (parts[2]) {
      case "<": return value < bound;
      case ">": return value > bound;
      case "<=": return value <= bound;
      case ">=": return value >= bound;
      default: return Number.isNaN(bound) ? cell.toLowerCase() === parts[3].toLowerCase() : value === bound;
    }
  };
}

function filterRows() {
  const words = document.getElementById("filter").value.trim().split(/\s+/).filter(Boolean);
  const tests = words.map((word) => comparison(word) || ((row) => row.textContent.toLowerCase().includes(word.toLowerCase())));
  const status = document.getElementById("status").value;
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    row.hidden = (status && row.dataset.status !== status) || !tests.every((test) => test(row));
    shown += row.hidden ? 0 : 1;
  }
  const total = table.tBodies[0].rows.length;
  const count = document.getElementById("count");
  count.textContent = (shown === total ? `${total} trials` : `${shown} of ${total} trials`) + count.dataset.of;
}

function sortBy(header) {
  // The first click on a column of numbers puts the greatest first, on a column of words the first in the alphabet.
  const numeric = header.hasAttribute("data-numeric");
  const first = numeric && header.dataset.name !== "trial" ? "descending" : "ascending";
  const second = first === "ascending" ? "descending" : "ascending";
  const direction = header.getAttribute("aria-sort") === first ? second : first;
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = [...table.tBodies[0].rows].map((row) => {
    const text = row.cells[header.cellIndex].textContent;
    return { row, key: numeric ? parseFloat(text) : text.toLowerCase() };
  });
  const blank = (key) => Number.isNaN(key) || key === "–";
  keyed.sort((a, b) => {
    if (blank(a.key) || blank(b.key)) return Number(blank(a.key)) - Number(blank(b.key));
    return sign * (a.key < b.key ? -1 : a.key > b.key ? 1 : 0);
  });
  table.tBodies[0].append(...keyed.map((entry) => entry.row));
}

if (table) {
  const numeric = [...table.tHead.rows[0].cells].map((cell) => cell.hasAttribute("data-numeric"));
  for (const row of table.tBodies[0].rows) {
    numeric.forEach((is, index) => is && row.cells[index].classList.add("number"));
  }
  for (const header of table.tHead.rows[0].cells) header.firstElementChild.addEventListener("click", () => sortBy(header));
  for (const id of ["filter", "status"]) document.getElementById(id).addEventListener("input", filterRows);
  filterRows();
}

drawAll();
