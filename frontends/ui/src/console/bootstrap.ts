// The two parts of Bootstrap's script that consoles use: a menu that opens below a button, and a navigation that
// folds on narrow screens.

function openOrClose(button: Element): void {
  const kind = button.getAttribute('data-toggle');
  const target = kind === 'collapse' ? document.querySelector(button.getAttribute('data-target') ?? 'nothing') : button.parentElement?.querySelector('.dropdown-menu');
  if (!target) return;
  const isOpen = target.classList.toggle('show');
  button.setAttribute('aria-expanded', String(isOpen));
}

document.addEventListener('click', (event) => {
  const pressed = (event.target as Element).closest('[data-toggle="dropdown"], [data-toggle="collapse"]');
  for (const menu of document.querySelectorAll('.dropdown-menu.show')) {
    if (menu.parentElement !== pressed?.parentElement) menu.classList.remove('show');
  }
  if (pressed) openOrClose(pressed);
});
