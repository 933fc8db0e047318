/** What is looked at, as a whole in the address, so that a view can be sent. */

export type View = {
  subject: string;
  /** Slices, volume, pial or inflated surface. */
  view: string;
  overlay: string;
  low: string;
  high: string;
  colours: string;
  region: string;
  style: string;
  voxel: string;
  /** Whether the responses of the voxel or of the region are shown. */
  of: string;
  picture: string;
  model: string;
};
export const EMPTY: View = {
  subject: "", view: "slices", overlay: "", low: "", high: "", colours: "", region: "", style: "outline",
  voxel: "", of: "", picture: "", model: "",
};
type Key = keyof View;
type Listener = (changed: ReadonlySet<Key>) => void;

/** Where a view is kept: the address of the page, or nowhere. */
export interface Address {
  read(): string;
  write(text: string, replace: boolean): void;
  onChange(listener: () => void): void;
}

export const PAGE_ADDRESS: Address = {
  read: () => location.hash.slice(1),
  write: (text, replace) => {
    if (text === location.hash.slice(1)) return;
    history[replace ? "replaceState" : "pushState"](null, "", `#${text}`);
  },
  onChange: (listener) => {
    window.addEventListener("popstate", listener);
    window.addEventListener("hashchange", listener);
  },
};

/** No address: what is shown first, and nothing kept. */
export function nowhere(first: Partial<View>): Address {
  return { read: () => new URLSearchParams(first).toString(), write: () => {}, onChange: () => {} };
}

export class State {
  #view: View;
  readonly #listeners: Listener[] = [];

  constructor(readonly address: Address) {
    this.#view = parse(address.read());
    address.onChange(() => this.#replace(parse(address.read())));
  }

  get view(): Readonly<View> {
    return this.#view;
  }

  subscribe(listener: Listener): void {
    this.#listeners.push(listener);
  }

  /** Change some of the view; a new entry of the history unless it only refines the last. */
  set(change: Partial<View>, { replace = false } = {}): void {
    const next = { ...this.#view, ...change };
    const before = this.#view;
    this.#replace(next);
    if (this.#view !== before) this.address.write(write(next), replace);
  }

  #replace(next: View): void {
    const keys = (Object.keys(EMPTY) as Key[]).filter((key) => next[key] !== this.#view[key]);
    if (keys.length === 0) return;
    this.#view = next;
    const changed = new Set(keys);
    for (const listener of this.#listeners) listener(changed);
  }
}

function parse(text: string): View {
  const found = new URLSearchParams(text);
  const view = { ...EMPTY };
  for (const key of Object.keys(EMPTY) as Key[]) view[key] = found.get(key) ?? EMPTY[key];
  return view;
}

function write(view: View): string {
  const found = new URLSearchParams();
  for (const key of Object.keys(EMPTY) as Key[]) if (view[key] !== EMPTY[key]) found.set(key, view[key]);
  return found.toString().replaceAll("%2F", "/").replaceAll("%3A", ":");
}
