"use strict";

for (const item of document.querySelectorAll("li.broken")) {
  item.title = "A bracket in here is never closed, or closed by the wrong one.";
}
