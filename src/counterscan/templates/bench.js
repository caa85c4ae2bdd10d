"use strict";
document.querySelectorAll(".bench").forEach(table => {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], words = Number(table.dataset.words || 2);
  const value = (row, place) => { const cell = row.cells[place]; return !cell ? "" : cell.dataset.value ?? cell.textContent; };
  heads.forEach((head, place) => head.firstChild.addEventListener("click", () => {
    const down = place >= words ? !head.classList.contains("down") : head.classList.contains("up");
    heads.forEach(one => one.classList.remove("up", "down"));
    head.classList.add(down ? "down" : "up");
    [...body.rows].sort((a, b) => {
      const [x, y] = [value(a, place), value(b, place)];
      if (x === "" || y === "") return (x === "") - (y === "");  // what was not measured comes last
      return (place >= words ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
    }).forEach(row => body.append(row));
  }));
});
