import { start } from "./explorer.js";

const { content } = document.querySelector("meta[name=store]");
await start(document.querySelector("#explorer"), content);
