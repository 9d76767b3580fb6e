// What every page has once somebody is logged in. Pages are readable without it.
import "./keys.js";
import "./forms.js";
import { follow } from "./live.js";
import { localise } from "./times.js";

document.documentElement.classList.add("scripted");
localise(document);
follow();
// On a phone the menu is drawn sideways: where one is must be in sight.
document.querySelector(".side nav a[aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
