/** Small helpers to make elements; text is always set as text, never as HTML. */

type Child = Node | string | undefined;
type Attributes = { [name: string]: string | number | boolean | EventListener | undefined };

/** An element with attributes; `onclick` and its like are listeners, false leaves one out. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") element.style.cssText = String(value); // an attribute is against the policy
    else if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

export function svg(tag: string, attributes: { [name: string]: string | number } = {}, ...children: Node[]): SVGElement {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

export function labelled(text: string, control: HTMLElement): HTMLLabelElement {
  return h("label", {}, h("span", {}, text), control);
}

export function option(value: string, text: string): HTMLOptionElement {
  return h("option", { value }, text);
}

/** A number with sign and few digits, for reading. */
export function signed(value: number, digits = 2): string {
  if (!Number.isFinite(value)) return "none";
  return (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
}

export function size(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(1)} GB`;
  return bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.ceil(bytes / 1e3)} kB`;
}

export function count(n: number, one: string, many = `${one}s`): string {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}
