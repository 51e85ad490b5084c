"use strict";
for (const slider of document.querySelectorAll(".slider input")) {
  const sheets = slider.closest(".over-time").querySelectorAll(".sheet");
  const output = slider.parentElement.querySelector("output");
  const show = () => {
    const wanted = slider.value;
    for (const sheet of sheets) sheet.hidden = sheet.dataset.number !== wanted;
    output.textContent = slider.dataset.labels.split("|")[wanted];
  };
  slider.addEventListener("input", show);
  slider.value = slider.max;
  show();
}
const charts = document.querySelectorAll(".charts");
for (const input of document.querySelectorAll(".controls input")) {
  const apply = () => {
    if (input.type === "radio" && !input.checked) return;
    for (const chart of charts) {
      if (input.type === "radio") {
        for (const other of document.getElementsByName(input.name)) chart.classList.remove(other.value);
        chart.classList.add(input.value);
      } else chart.classList.toggle("calm", !input.checked);
    }
  };
  input.addEventListener("change", apply);
  apply();
}
const digits = (value) => (Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3) ? value.toExponential(2) : String(+value.toPrecision(3)));
const duration = (seconds) => (seconds < 180 ? Math.round(seconds) + " s" : seconds < 10800 ? Math.round(seconds / 60) + " min" : (seconds / 3600).toFixed(1) + " h");
for (const drawing of document.querySelectorAll(".drawing")) {
  const svg = drawing.querySelector("svg");
  const [left, top, right, bottom, last, low, high] = drawing.dataset.plot.split(" ").map(Number);
  const isLogarithmic = drawing.dataset.scale === "logarithmic";
  const lines = [...svg.children].filter((child) => child.tagName === "polyline");
  const chart = drawing.closest(".chart");
  const values = [...chart.querySelectorAll(".legend b")];
  const where = chart.querySelector("output");
  const make = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    svg.append(element);
    return element;
  };
  const marks = lines.map((line) => make("circle", { r: 3.5, style: "fill:" + line.getAttribute("stroke"), visibility: "hidden" }));
  svg.addEventListener("pointermove", (event) => {
    const x = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
    lines.forEach((line, index) => {
      const points = [...line.points];
      if (!points.length) return;
      const near = points.reduce((best, point) => (Math.abs(point.x - x) < Math.abs(best.x - x) ? point : best));
      const level = low + ((bottom - near.y) / (bottom - top)) * (high - low);
      values[index].textContent = digits(isLogarithmic ? 10 ** level : level);
      marks[index].setAttribute("cx", near.x);
      marks[index].setAttribute("cy", near.y);
      marks[index].setAttribute("visibility", "visible");
      const place = ((near.x - left) / (right - left)) * last;
      where.textContent = drawing.dataset.along === "time" ? "after " + duration(place) : "iteration " + Math.round(place).toLocaleString("en");
    });
  });
  svg.addEventListener("pointerleave", () => {
    where.textContent = "";
    values.forEach((value) => (value.textContent = value.dataset.newest));
    marks.forEach((mark) => mark.setAttribute("visibility", "hidden"));
  });
}
