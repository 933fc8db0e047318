/** Doors of the page: `start` for a page of its own, `default` for a widget of a notebook. */

import { mount } from "./page/explorer";
import { PAGE_ADDRESS } from "./state";
import { HttpSource } from "./store/source";
import { render } from "./widget";

/** Show the store that the address names with ?store=, else the one that the page names. */
export async function start(root: HTMLElement, store: string): Promise<void> {
  const named = new URLSearchParams(location.search).get("store") ?? store;
  const source = new HttpSource(new URL(named, document.baseURI).href);
  const explorer = await mount(root, source, PAGE_ADDRESS);
  Object.assign(window, { explorer });
}

export default { render };
