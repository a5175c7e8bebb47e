// A short message at the bottom of the page.
import { signal } from '@preact/signals';

const message = signal('');
let timer: ReturnType<typeof setTimeout> | undefined;

/** Shows a message for two seconds. */
export function toast(text: string): void {
  message.value = text;
  clearTimeout(timer);
  timer = setTimeout(() => (message.value = ''), 2000);
}

/** The function that shows a message. */
export function useToast(): (text: string) => void {
  return toast;
}

export function Toast() {
  return message.value === '' ? null : <div class="toast" role="status">{message.value}</div>;
}
