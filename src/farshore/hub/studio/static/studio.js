// What every page has once somebody is logged in. Pages are readable without it.
import "./keys.js";
import "./forms.js";
import { follow } from "./live.js";
import { localise } from "./times.js";

document.documentElement.classList.add("scripted");
localise(document);
follow();
