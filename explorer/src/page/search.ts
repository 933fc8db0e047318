/** Pictures found by name, by a noun of their segmentations, or by words of their captions. */

import type { Context } from "./context";
import { count, h, labelled } from "./dom";
import { Job } from "./job";
import { strip } from "./pictures";

const MOST = 24;

export class Search {
  readonly element: HTMLElement;
  readonly #job = new Job();
  readonly #words = h("input", { type: "search", placeholder: "word, noun or name", autocomplete: "off" });
  readonly #found = h("div", { class: "found" });

  constructor(readonly context: Context) {
    const submit = (event: Event) => {
      event.preventDefault();
      void this.#search();
    };
    this.element = h("div", { class: "search" },
      h("form", { class: "go", role: "search", onsubmit: submit }, labelled("Find pictures", this.#words), h("button", {}, "Find")),
      this.#job.status, this.#found);
  }

  async #search(): Promise<void> {
    const text = this.#words.value.trim().toLowerCase();
    this.#found.replaceChildren();
    if (!text) return this.#job.cancel();
    await this.#job.run("Searching …", async (signal) => {
      const found = await this.#matches(text);
      if (signal.aborted) return;
      const shown = found.slice(0, MOST);
      this.#found.replaceChildren(
        h("p", { class: "hint" }, `${count(found.length, "picture")}${found.length > MOST ? `, the first ${MOST} shown` : ""}`),
        strip(this.context, "Pictures found", shown.map(([image, why]) => [image, why])),
      );
    });
  }

  /** Images with a reason: those that the subject saw first. */
  async #matches(text: string): Promise<[string, string][]> {
    const { stimuli, subject } = this.context;
    const [names, masks, captions, trials] = await Promise.all([
      stimuli.names(), stimuli.masks(), stimuli.captions(), subject.trials(),
    ]);
    const escaped = text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    const word = new RegExp(`(?<![\\p{L}\\p{N}])${escaped}(?![\\p{L}\\p{N}])`, "iu");
    const seen = new Set(trials.images);
    const found: [string, string][] = [];
    for (const name of new Set([...names, ...trials.images])) {
      if (masks.get(name)?.some(({ noun }) => noun.toLowerCase() === text)) found.push([name, "noun"]);
      else if (captions.get(name)?.some((caption) => word.test(caption.text))) found.push([name, "caption"]);
      else if (name.toLowerCase().includes(text)) found.push([name, "name"]);
    }
    return found.sort(([a], [b]) => Number(seen.has(b)) - Number(seen.has(a)));
  }
}
