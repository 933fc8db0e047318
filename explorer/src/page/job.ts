/** Work of a panel: the latest counts, what it says while it runs, and errors in words. */

import { Problem } from "../store/source";
import { h } from "./dom";

export class Job {
  /** Where the panel says what it does, and what went wrong. */
  readonly status = h("p", { class: "status", role: "status" });
  #current: AbortController | undefined;

  /** Run `work` unless something newer was begun; `signal` says when it was. */
  async run(doing: string, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    this.#current?.abort();
    const own = (this.#current = new AbortController());
    this.say(doing);
    try {
      await work(own.signal);
      if (this.#current === own && !this.failed) this.say("");
    } catch (error) {
      if (this.#current === own) this.complain(error);
    }
  }

  get failed(): boolean {
    return this.status.classList.contains("problem");
  }

  cancel(): void {
    this.#current?.abort();
    this.#current = undefined;
    this.say("");
  }

  say(text: string): void {
    this.status.classList.remove("problem");
    this.status.textContent = text;
  }

  complain(error: unknown): void {
    this.status.classList.add("problem");
    if (!(error instanceof Problem)) console.error(error);
    this.status.textContent = error instanceof Error ? error.message : String(error);
  }
}
