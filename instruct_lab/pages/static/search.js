/* The search box: hides every element of class `searchable` whose text lacks one of the typed words. */
const box = document.getElementById("search");
const count = document.getElementById("search-count");
if (box) box.addEventListener("input", () => {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const part of document.querySelectorAll(".searchable")) {
    const text = part.textContent.toLowerCase();
    part.hidden = !words.every((word) => text.includes(word));
    if (part.tagName === "DETAILS") part.open = words.length > 0 && !part.hidden;
    if (!part.hidden) found += 1;
  }
  count.textContent = words.length ? found + " found" : "";
});
